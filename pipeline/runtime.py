"""Processes, devices and threads: the one place that asks accelerate how the program was launched."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Runtime:
    """One process of a launch, or one process on its own (accelerator None)."""

    device: torch.device
    rank: int = 0
    world: int = 1
    accelerator: Any = None

    @classmethod
    def start(cls, threads: int) -> "Runtime":
        """Joins the launch (`accelerate launch`, or none) and pins the number of threads; another one changes bytes."""
        from accelerate import Accelerator

        pin_threads(threads)
        accelerator = Accelerator(cpu=not torch.cuda.is_available())
        return cls(accelerator.device, accelerator.process_index, accelerator.num_processes, accelerator)

    @classmethod
    def alone(cls, threads: int | None = None, device: torch.device | None = None) -> "Runtime":
        """A process that shares its work with nobody."""
        if threads is not None:
            pin_threads(threads)
        return cls(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and manifests."""
        return self.rank == 0

    def wrap(self, objective: nn.Module) -> nn.Module:
        """The objective on the device; with several processes, one that averages gradients."""
        objective.to(self.device)
        return objective if self.world == 1 else self.accelerator.prepare(objective)

    def barrier(self) -> None:
        """Waits for all processes."""
        if self.world > 1:
            self.accelerator.wait_for_everyone()

    def no_sync(self, objective: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged with the last micro-batch only."""
        return nullcontext() if last or self.world == 1 else self.accelerator.no_sync(objective)

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        """bf16 arithmetic where it is safe, or plain float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")


def pin_threads(threads: int) -> None:
    """Fixes the number of threads of this process."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def counter(runtime: Runtime, name: str) -> "Counter":
    """A counter shared by all processes of the launch; each call gives the next free number."""
    if runtime.world == 1:
        return Counter(None, name)
    store = torch.distributed.distributed_c10d._get_default_store()
    return Counter(store, name)


class Counter:
    """Numbers 0, 1, 2 ... each given to one process only."""

    def __init__(self, store: Any, name: str) -> None:
        self.store, self.name, self.own = store, name, 0

    def next(self) -> int:
        """The next number that no process has had."""
        if self.store is not None:
            return int(self.store.add(self.name, 1)) - 1
        self.own += 1
        return self.own - 1
