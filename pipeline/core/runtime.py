"""Processes, devices and threads: the one place that asks accelerate how the program was launched."""

import importlib.util
import os
import resource
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from pipeline.core.allocator import keep_freed_memory
from pipeline.core.errors import UserError

Sharding = Literal["none", "fsdp2", "zero2"]
T = TypeVar("T")
TIMEOUT = "TWINSYNTH_TIMEOUT"  # environment variable: seconds that processes wait for each other
PATIENCE = 24 * 3600.0  # its default; the libraries' own are 10 and 30 minutes, which work of one process may exceed


@dataclass(frozen=True)
class Runtime:
    """One process of a launch, or one process on its own (accelerator None)."""

    device: torch.device
    rank: int = 0
    world: int = 1
    accelerator: Any = None
    sharding: Sharding = "none"  # how the launch wants trained weights and optimiser laid out

    @classmethod
    def start(cls, threads: int) -> "Runtime":
        """Join the launch (`accelerate launch`, or none) and pin the number of threads; another one changes bytes.

        The processes wait for each other for TWINSYNTH_TIMEOUT seconds, by default a day. Raises UserError where the
        launch asks for what is not installed, or the variable is no such number.
        """
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        pin_threads(threads)
        sharding = _sharding()
        patience = InitProcessGroupKwargs(timeout=_patience())
        accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patience])
        world = accelerator.num_processes
        kind: Sharding = sharding if world > 1 else "none"
        return cls(accelerator.device, accelerator.process_index, world, accelerator, kind)

    @classmethod
    def alone(cls, threads: int | None = None, device: torch.device | None = None) -> "Runtime":
        """Return a runtime of one process."""
        if threads is not None:
            pin_threads(threads)
        return cls(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and manifests."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            self.accelerator.wait_for_everyone()

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes, each of which gives one tensor of the same shape."""
        if self.world == 1:
            return values
        torch.distributed.all_reduce(values)
        return values / self.world

    def broadcast(self, value: T) -> T:
        """Return the main process's value on every process."""
        if self.world == 1:
            return value
        held = [value]
        torch.distributed.broadcast_object_list(held, src=0, device=self.device)
        return held[0]

    def tracker(self, kind: str, folder: Path, name: str) -> "Tracker | None":
        """Return the tracking service on the main process. Raises UserError on all where it is not installed."""
        if kind == "none":
            return None
        if importlib.util.find_spec(kind) is None:
            raise UserError(f"the tracker {kind} needs the package {kind}; install it, or set tracker: none")
        return Tracker(kind, folder, name) if self.is_main else None

    def peak_memory(self) -> float:
        """Return the peak memory of this process in GB, on its GPU or of the machine."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9

    def memory(self) -> int:
        """Return the bytes of this process's GPU, or its share of the machine's memory."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_properties(self.device).total_memory
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.world > 1 else 1
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // beside

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        """Return autocast to bfloat16, or a context that leaves float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")


def _sharding() -> Sharding:
    """Return the sharding that `accelerate launch` was configured for, from its environment variables."""
    if _asked("ACCELERATE_USE_DEEPSPEED"):
        if importlib.util.find_spec("deepspeed") is None:
            raise UserError(
                "this launch shards with DeepSpeed, which is not installed; pip install -e '.[deepspeed]', or launch"
                " with gpu8 or gpu8_fsdp2"
            )
        return "zero2"
    if _asked("ACCELERATE_USE_FSDP"):
        if os.environ.get("FSDP_VERSION") != "2":
            raise UserError("this launch asks for the first version of FSDP; set fsdp_version: 2 in its fsdp_config")
        return "fsdp2"
    return "none"


def _patience() -> timedelta:
    """Return how long processes wait for each other, from the environment. Raises UserError for another value."""
    given = os.environ.get(TIMEOUT) or str(PATIENCE)
    try:
        patience = timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        patience = timedelta()
    if not timedelta() < patience < timedelta(days=365):
        raise UserError(
            f"the environment variable {TIMEOUT} is {given!r}; set it to the number of seconds that processes wait for"
            f" each other, above 0 and below a year, or unset it, and they wait {PATIENCE:.0f}"
        )
    return patience


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"


class Tracker:
    """Send numbers by name to a tracking service on the main process; no path, parameter or image."""

    def __init__(self, kind: str, folder: Path, name: str) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        folder.mkdir(parents=True, exist_ok=True)
        places: dict[str, dict[str, Any]] = {
            "tensorboard": {"run_name": name, "logging_dir": str(folder)},
            "wandb": {"run_name": "twinsynth", "name": name, "dir": str(folder)},
            "mlflow": {"experiment_name": "twinsynth", "run_name": name},
            "dvclive": {"run_name": name, "dir": str(folder / "dvclive"), "save_dvc_exp": False},
        }
        self.service = LOGGER_TYPE_TO_CLASS[kind](**places[kind])
        if hasattr(self.service, "start"):
            self.service.start()

    def log(self, values: dict[str, float], step: int) -> None:
        """Send the numbers of one step."""
        self.service.log(values, step=step)

    def finish(self) -> None:
        """Send what is still buffered."""
        self.service.finish()


def pin_threads(threads: int) -> None:
    """Fix the number of threads of this process, and let it keep freed memory for the next step."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    keep_freed_memory()


def counter(runtime: Runtime, name: str) -> "Counter":
    """Return a counter shared by all processes of the launch; each call gives the next free number."""
    if runtime.world == 1:
        return Counter(None, name)
    store = torch.distributed.distributed_c10d._get_default_store()
    return Counter(store, name)


class Counter:
    """The numbers 0, 1, 2 ..., each given to one process only."""

    def __init__(self, store: Any, name: str) -> None:
        self.store, self.name, self.served = store, name, 0

    def next(self) -> int:
        """Return the next number that no process has taken."""
        if self.store is not None:
            return int(self.store.add(self.name, 1)) - 1
        self.served += 1
        return self.served - 1
