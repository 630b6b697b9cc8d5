"""Runs the stages of a small study: as forks of a process that has imported everything, or as real commands.

`import torch` takes seconds, a stage of the smoke study not much more. So most runs are children of a fork server that
run the stage's script with runpy, as `python stages/x.py` would; one of every stage is a real command (test_kills.py).
"""

import atexit
import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML
from torch.distributed import TCPStore

from tests.conftest import REPOSITORY
from tests.faults import inside
from tests.faults.inside import Fault
from tests.patience import HUNG

STUDY = "smoke"
NUMBERS = count()
TOLD = Path(tempfile.mkdtemp(prefix="told_"))  # what the processes say
atexit.register(shutil.rmtree, TOLD, ignore_errors=True)


@dataclass(frozen=True)
class Stage:
    """One stage of the study: its command, what it publishes and where it works."""

    name: str
    outputs: tuple[str, ...]  # below outputs/smoke
    works: tuple[str, ...]  # patterns below work
    argv: tuple[str, ...] = ()
    shared: bool = False  # may run on several processes

    @property
    def script(self) -> str:
        return str(REPOSITORY / "stages" / f"{'mix' if self.name.startswith('mix_') else self.name}.py")


SET, REPORT = "siamese_x2_screened", "../../reports"


def place(output: str) -> str:
    """Where an output lies in the study's folder."""
    return "reports" if output == REPORT else f"outputs/{STUDY}/{output}"


STAGES = {
    stage.name: stage
    for stage in (
        Stage("records", ("records",), ("records-*",)),
        Stage(
            "prepare",
            ("real", "unlabelled", "real_report.json", "attributes.csv"),
            ("prepare-*", "unlabelled-*", "names"),
        ),
        Stage("pseudo_labels", ("pseudo_labels",), ("pseudo_labels-*",)),
        Stage("base", ("base",), ("base-*",)),
        Stage("finetune", ("generators/siamese",), ("finetune-*", "moments"), shared=True),
        Stage("generate", ("synthetic/siamese",), ("generate-*",), shared=True),
        Stage("judge", ("judge",), ("judge-*",)),
        Stage("score", ("scores/siamese",), ("score-*", "features"), shared=True),
        Stage("snapshots", ("snapshots/siamese",), ("snapshots-*", "snapshot-*")),
        Stage("audit", ("audit/siamese",), ("audit-*", "features")),
        Stage("mix", (f"training_sets/{SET}",), ("mix-*",), ("--training-set", SET)),
        Stage("mix_x1", ("training_sets/siamese_x1",), ("mix-*",), ("--training-set", "siamese_x1")),
        Stage("mix_real", ("training_sets/real",), ("mix-*",), ("--training-set", "real")),
        Stage("segment", ("segmentation/unet",), ("segment-*",), shared=True),
        Stage("confirm", ("confirmation",), ("confirm-*", "segment-*"), shared=True),
        Stage("compare", ("comparison",), ("compare-*",)),
        Stage("report", (REPORT,), ()),
    )
}
CHEAP = ("records", "prepare", "mix_real")
KILLED = (
    *("prepare", "pseudo_labels", "base", "finetune", "generate"),
    *("score", "audit", "mix", "segment", "confirm", "compare", "report"),
)


def small_params() -> dict[str, Any]:
    """The smoke study with one generator, three arms and a checkpoint after every step."""
    params: dict[str, Any] = YAML(typ="safe").load(REPOSITORY / "configs" / "studies" / "smoke.yaml")
    labels = {"segmenter": "unet", "networks": 2}
    params["data"] |= {"train": 18, "train_limit": 12, "unlabelled": {"rest": True, "pseudo_labels": labels}}
    params["base"]["denoiser"]["max_steps"] = 52  # one checkpoint before the last
    params["finetune"] |= {"checkpoint_every": 1, "validate_every": 2}
    params["generators"] = {"siamese": {"copies": 2}}
    params["generate"]["batch_size"] = 4
    params["score"] |= {"metrics": ["frechet", "kernel", "prdc", "faithfulness"], "resamples": 100}
    kept = ("real", "siamese_x1", SET)
    params["training_sets"] = {name: params["training_sets"][name] for name in kept}
    params["compare"]["resamples"] = 200
    return params


def server() -> Any:
    """The context whose processes are forks of one that has imported what stages need."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preload"])
    return context


CONTEXT = server()


@dataclass
class Run:
    """One run of a stage by as many processes as there are ranks."""

    processes: list[Any]
    told: list[Path]
    store: TCPStore | None = None  # as the launcher keeps it: it outlives every process
    began: float = field(default_factory=time.monotonic)

    def wait(self) -> int:
        """Its exit status; of several processes the first that fails ends the others, as a launcher sees to it."""
        limit = time.monotonic() + HUNG
        while any(process.exitcode is None for process in self.processes):
            failed = [process.exitcode for process in self.processes if process.exitcode]
            if failed or time.monotonic() > limit:
                self.kill()
                assert failed, f"no end after {HUNG} s\n{self.text}"
                return failed[0]
            time.sleep(0.005)
        return next((process.exitcode for process in self.processes if process.exitcode), 0)

    def kill(self, sent: int = signal.SIGKILL) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                if process.exitcode is None:
                    os.kill(process.pid, sent)
        if sent == signal.SIGKILL:
            for process in self.processes:
                process.join()

    def wait_for_progress(self) -> bool:
        """Whether a file of the stage was touched before it ended."""
        progress = Path(f"{self.told[0]}.progress")
        while not progress.exists():
            if all(process.exitcode is not None for process in self.processes):
                return progress.exists()
            time.sleep(0.002)
        return True

    @property
    def text(self) -> str:
        return "".join(path.read_text() for path in self.told if path.exists())

    @property
    def operations(self) -> list[str]:
        """What the first process wrote, file operation by file operation, once it has ended by itself."""
        return json.loads(Path(f"{self.told[0]}.seen").read_text())


def start(folder: Path, name: str, ranks: int = 1, faults: dict[int, Fault] | Fault = Fault()) -> Run:  # noqa: B008
    """Starts a stage in forks."""
    stage = STAGES[name]
    store = None if ranks == 1 else TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    each = faults if isinstance(faults, dict) else dict.fromkeys(range(ranks), faults)
    processes, told = [], []
    for rank in range(ranks):
        told.append(TOLD / f"{name}_{next(NUMBERS)}")
        variables = launch(rank, ranks, store.port) if store is not None else {}
        arguments = (str(folder), stage.script, list(stage.argv), str(told[-1]), variables)
        process = CONTEXT.Process(target=inside.run, args=(*arguments, each.get(rank, Fault())))
        process.start()
        processes.append(process)
    return Run(processes, told, store)


def launch(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What `accelerate launch` tells its processes."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    place["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    return place | {name: str(number) for name, number in numbers.items()}


def done(folder: Path, name: str, ranks: int = 1, fault: Fault = Fault()) -> Run:  # noqa: B008
    """Runs a stage to its end, which must be success."""
    run = start(folder, name, ranks, fault)
    status = run.wait()
    assert status == 0, f"{name}: {status}\n{run.text}"
    return run


def command(name: str, ranks: int = 1) -> list[str]:
    """The stage as dvc.yaml runs it."""
    stage = STAGES[name]
    script = [stage.script, *stage.argv]
    if ranks == 1:
        return [sys.executable, *script]
    config = str(REPOSITORY / "configs" / "accelerate" / "cpu2.yaml")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    return [*launcher, "--num_processes", str(ranks), *script]


def real(folder: Path, name: str, ranks: int = 1) -> "subprocess.Popen[bytes]":
    """Starts a stage as a real command in a session of its own."""
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    told = (TOLD / f"{name}_{next(NUMBERS)}").open("wb")
    return subprocess.Popen(
        command(name, ranks), cwd=folder, env=variables, start_new_session=True, stdout=told, stderr=told
    )


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kills a command and all it started; the launcher's processes lead groups of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def copy(study: Path, target: Path, *without: str, work: bool = False, linked: bool = False) -> Path:
    """The study again, hard links within it kept, without what some stages made and, unless asked for, without work.

    Linked to the original where nobody may write into it: stages must not write into what is published.
    """
    target.mkdir()
    tops = [str(path) for path in study.iterdir() if work or path.name != "work"]
    subprocess.run(["cp", "-al" if linked else "-a", *tops, str(target)], check=True)
    for name in without:
        forget(target, name)
    return target


def forget(folder: Path, name: str, works: bool = True) -> None:
    """Takes out what a stage has published and, if asked, its work."""
    for part in STAGES[name].outputs:
        remove(folder / place(part))
    for pattern in STAGES[name].works if works else ():
        for path in (folder / "work").glob(pattern):
            remove(path)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def published(folder: Path) -> dict[str, str]:
    """The hash of every file that the study's stages have published, by its name.

    What is being written is left out, and so are the times of training and drawing, which differ from run to run.
    """
    found = {}
    for top in ("outputs", "reports"):
        for path in sorted((folder / top).rglob("*")):
            own = path.relative_to(folder)
            hidden = any(part.startswith(".") and part.endswith(".tmp") for part in own.parts)
            if path.is_file() and not hidden and not own.name.endswith((".seconds.json", "bench.csv")):
                found[own.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary names where outputs lie."""
    tops = (folder / top for top in ("outputs", "reports"))
    return [str(path.relative_to(folder)) for top in tops for path in top.rglob(".*.tmp")]
