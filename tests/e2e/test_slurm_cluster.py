"""The smoke study with three generators as jobs of a real SLURM on this machine; needs slurmctld, slurmd and munged."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from tests.conftest import REPOSITORY
from tests.e2e.test_smoke import DVC, call, clone
from tests.faults.launching import published
from tests.patience import HUNG_LONG

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
PLACES = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
ABSENT = [name for name in DAEMONS if shutil.which(name, path=PLACES) is None]
REASON = f"no {ABSENT[0]}: apt-get install slurm-wlm munge" if ABSENT else "slurmd starts jobs as root only"
CONFIGURATION = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
MinJobAge=3600
SchedulerParameters=sched_interval=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES State=UP
"""
RESOURCES = 'attempts: 3\ndefaults: {ntasks: 1, cpus-per-task: 1, time: "02:00:00"}\n'
GENERATORS = {"siamese": {"copies": 2}, "controlnet": {"copies": 1}}
# Trains the same weights as siamese at the same time, so one of both jobs waits for the other.
GENERATORS["siamese_again"] = {"method": "siamese", "copies": 1}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(ABSENT) or os.geteuid() != 0, reason=REASON)]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One node with two processors, in a folder of its own, until the test ends."""
    folder = tmp_path / "slurm"
    for part in ("state", "spool", "munge"):
        (folder / part).mkdir(parents=True, mode=0o700)
    host = socket.gethostname().partition(".")[0]
    settings = {"host": host, "folder": folder, "controller": free_port(), "node": free_port(), "cpus": os.cpu_count()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**settings))
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    monkeypatch.setenv("PATH", PLACES)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    own = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *own],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", host],
    ]
    started = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("wb") as told:
                started.append(subprocess.Popen(command, stdout=told, stderr=told, start_new_session=True))
            if command[0] == "munged":
                wait_until((folder / "munge.socket").exists, "munged")
        wait_until(lambda: "idle" in said(["sinfo", "--noheader", "--format=%T"]), "slurmd")
        yield folder
    finally:
        subprocess.run(["scancel", f"--user={os.getuid()}"], check=False, capture_output=True)
        end(started)


def end(started: "list[subprocess.Popen[bytes]]") -> None:
    """End the daemons, last first, and what slurmd has started."""
    for process in reversed(started):
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            if child.is_running():
                child.kill()


def said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_until(condition, what: str, limit: float = 60.0) -> None:
    last = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < last, f"{what} did not happen within {limit} s"
        time.sleep(0.1)


@dataclass(frozen=True)
class Killed:
    """What was done to jobs while they ran."""

    requeued: str
    killed: str


def study(folder: Path) -> Path:
    """A checkout of smoke with three generators, and checkpoints often enough to kill between two of them."""
    folder.mkdir()
    clone(folder, "smoke", REPOSITORY)
    yaml = YAML()
    values = yaml.load(folder / "params.yaml")
    values["generators"] = GENERATORS
    values["finetune"] |= {"max_steps": 40, "checkpoint_every": 2, "snapshots": [20]}
    values["training_sets"] |= {"siamese_again_x1": {"generator": "siamese_again", "multiplier": 1}}
    yaml.dump(values, folder / "params.yaml")
    (folder / "configs" / "slurm" / "test.yaml").write_text(RESOURCES)
    return folder


def jobs(folder: Path) -> dict[str, dict[str, Any]]:
    program = "from pipeline.cli.main import main; main(['jobs', '--json'])"
    return {row["stage"]: row for row in json.loads(call(folder, ["python", "-c", program]))}


def checkpoints(folder: Path) -> int:
    return sum(1 for _ in folder.glob("work/finetune-*/checkpoints/*.pt"))


def kill_command(folder: Path, stage: str) -> None:
    """Send SIGKILL to the processes of a stage, but not to the job around them, as when memory runs out."""
    script, _, entry = stage.partition("@")
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        if process.info["cwd"] == str(folder) and f"stages/{script}.py" in line and entry in line:
            process.send_signal(signal.SIGKILL)


def disturb(folder: Path) -> Killed:
    """Put a fine-tuning that has a checkpoint back into the queue, as a preemption does, and kill a stage later on."""
    wait_until(lambda: checkpoints(folder) > 0, "a checkpoint", HUNG_LONG)
    rows = jobs(folder)
    requeued = next(name for name, row in rows.items() if name.startswith("finetune@") and row["state"] == "running")
    subprocess.run(["scontrol", "requeue", rows[requeued]["job"]], check=True)
    wait_until(lambda: any(folder.glob("work/segment-*/*")), "a cell of the grid", HUNG_LONG)
    kill_command(folder, "segment@unet")
    return Killed(requeued, "segment@unet")


def test_jobs_survive_kills_and_make_the_bytes_of_dvc_repro(cluster: Path, tmp_path: Path) -> None:
    plain, queued = study(tmp_path / "plain"), study(tmp_path / "queued")
    call(plain, [*DVC, "repro"])
    submit = "import sys; from pipeline.cli.main import main; sys.exit(main(['submit', '--resources', 'test']))"
    told = [call(queued, ["python", "-c", submit]), said(["squeue", "--format=%i %j %T %E"])]
    again = subprocess.run(
        ["python", "-c", submit], cwd=queued, env={**os.environ, "PYTHONPATH": str(queued)}, capture_output=True
    )
    assert again.returncode == 2 and b"still run or wait" in again.stderr
    disturbed = disturb(queued)
    wait_until(
        lambda: all(row["state"] not in ACTIVE for row in jobs(queued).values()), "the end of all jobs", HUNG_LONG
    )
    rows = jobs(queued)
    told += [f"requeued: {disturbed.requeued}, killed: {disturbed.killed}", json.dumps(rows, indent=1)]
    told += [said(["scontrol", "show", "job", rows[name]["job"]]) for name in (disturbed.requeued, disturbed.killed)]
    told += [(queued / rows[name]["log"]).read_text() for name in (disturbed.requeued, disturbed.killed, "commit")]
    told.append("\n".join(f"{sha} {name}" for name, sha in published(queued).items()))
    Path(os.environ.get("TWINSYNTH_SLURM_LOG", cluster / "told")).write_text("\n\n".join(told))
    assert {name: row["state"] for name, row in rows.items() if row["state"] != "done"} == {}
    assert rows[disturbed.killed]["attempts"] == 1 and rows[disturbed.requeued]["attempts"] == 0
    assert "Running stage" not in call(queued, [*DVC, "repro"])
    assert published(queued) == published(plain)


ACTIVE = ("running", "waiting", "pending")
