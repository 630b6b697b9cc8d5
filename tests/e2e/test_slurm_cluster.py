"""The smoke study with three generators as jobs of a real SLURM on this machine; needs slurmctld, slurmd and munged."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from tests.cli.slurm_toys import toy_checkout
from tests.conftest import REPOSITORY
from tests.e2e.test_smoke import DVC, call, clone
from tests.faults.launching import published
from tests.patience import HUNG, HUNG_LONG

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
ACTIVE = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED"}
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


def submit(folder: Path, code: Path | None = None) -> "subprocess.CompletedProcess[str]":
    program = "import sys; from pipeline.cli.main import main; sys.exit(main(['submit', '--resources', 'test']))"
    variables = {**os.environ, "PYTHONPATH": str(code or folder)}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


def states() -> dict[str, tuple[str, str]]:
    """Id and state of every job, by the name of its stage."""
    lines = said(["squeue", "--noheader", "--states=all", "--format=%j|%i|%T"]).splitlines()
    rows = [line.split("|") for line in lines]
    return {name.partition(":")[2]: (job, state) for name, job, state in rows}


def trained(folder: Path) -> set[str]:
    """The fine-tunings that have a checkpoint."""
    return {path.parent.parent.name for path in folder.glob("work/finetune-*/checkpoints/*.pt")}


def requeue_finetuning(folder: Path) -> str:
    """Put a fine-tuning that has a checkpoint back into the queue, as a preemption does."""
    wait_until(lambda: len(trained(folder)) == 2, "a checkpoint of both trainings", HUNG_LONG)
    name = next(name for name in ("finetune@controlnet", "finetune@siamese") if states()[name][1] == "RUNNING")
    subprocess.run(["scontrol", "requeue", states()[name][0]], check=True)
    return name


def kill_segmenter(folder: Path) -> str:
    """Send SIGKILL to the processes of the stage segment, but not to the job around them, as when memory runs out."""
    wait_until(lambda: any(folder.glob("work/segment-*/*")), "a cell of the grid", HUNG_LONG)
    killed = 0
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(folder) and "stages/segment.py" in (process.info["cmdline"] or []):
            process.send_signal(signal.SIGKILL)
            killed += 1
    assert killed
    return "segment@unet"


def disturbed_run(folder: Path) -> str:
    """Submit the study, disturb two jobs, wait for all, and return what SLURM and the jobs say of it."""
    submitted = submit(folder)
    assert submitted.returncode == 0, submitted.stderr
    told = [submitted.stdout, said(["squeue", "--format=%i %j %T %E"])]
    again = submit(folder)
    assert again.returncode == 2 and "still run or wait" in again.stderr
    disturbed = [requeue_finetuning(folder), kill_segmenter(folder)]
    wait_until(lambda: not ACTIVE & {state for _, state in states().values()}, "the end of all jobs", HUNG_LONG)
    told += [f"requeued, killed: {disturbed}", said(["squeue", "--states=all", "--format=%i %j %T"])]
    told += [said(["scontrol", "show", "job", states()[name][0]]) for name in disturbed]
    told += [(folder / "work" / "slurm" / "logs" / f"{name}.log").read_text() for name in (*disturbed, "commit")]
    ends = {path.stem: json.loads(path.read_text()) for path in (folder / "work" / "slurm" / "ends").glob("*.json")}
    assert {name: end["result"] for name, end in ends.items() if end["result"] != "done"} == {}, "\n\n".join(told)
    assert [ends[name]["attempts"] for name in disturbed] == [0, 1]
    assert "Restarts=1" in told[-5] and "Restarts=1" in told[-4]
    return "\n\n".join(told)


def test_jobs_survive_kills_and_make_the_bytes_of_dvc_repro(cluster: Path, tmp_path: Path) -> None:
    plain, queued = study(tmp_path / "plain"), study(tmp_path / "queued")
    call(plain, [*DVC, "repro"])
    disturbed_run(queued)
    assert "Running stage" not in call(queued, [*DVC, "repro"])
    assert published(queued) == published(plain)


def test_a_job_near_its_time_limit_is_requeued_and_ends(cluster: Path, tmp_path: Path) -> None:
    """SLURM's signal comes two minutes before the limit of three; the second attempt does not sleep."""
    folder = toy_checkout(tmp_path / "study")
    (folder / "configs" / "slurm" / "test.yaml").write_text("attempts: 2\ndefaults: {ntasks: 1, time: 3}\n")
    graph = folder / "dvc.yaml"
    sleeping = "echo first >> ran; test $(wc -l < ran) -gt 1 || sleep 600;"
    graph.write_text(graph.read_text().replace("echo first >> ran;", sleeping))
    submitted = submit(folder, REPOSITORY)
    assert submitted.returncode == 0, submitted.stderr
    wait_until(lambda: not ACTIVE & {state for _, state in states().values()}, "the end of all jobs", HUNG)
    records = folder / "work" / "slurm"
    end = json.loads((records / "ends" / "first.json").read_text())
    assert (end["result"], end["attempts"]) == ("done", 1)
    assert "the time limit was reached (attempt 1 of 2)" in (records / "logs" / "first.log").read_text()
    assert json.loads((records / "ends" / "commit.json").read_text())["result"] == "done"
