"""Watching a run: losses by name over all processes, rate, speed and memory on the main one, a look now and then."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from pipeline.core import progress
from pipeline.core.errors import UserError
from pipeline.core.progress import Bar, advance_bar
from pipeline.core.runtime import Runtime, Tracker

Row = dict[str, float]
QUIET = 60.0  # seconds between two lines where there is no terminal


@dataclass(frozen=True)
class Look:
    """Something that every process does together every so many optimiser steps, with the weights whole."""

    every: int
    at: Callable[[int], None]  # takes the number of completed steps


@dataclass(frozen=True)
class Watch:
    """What is done beside training; it changes no weight."""

    looks: tuple[Look, ...] = ()
    tracker: Tracker | None = None  # on the main process only


class Losses:
    """Named losses of every step: kept on the device, fetched now and then as their mean over all processes."""

    def __init__(self, rows: list[Row], runtime: Runtime) -> None:
        self.rows, self.runtime = rows, runtime
        self.waiting: list[dict[str, Tensor]] = []

    def add(self, losses: dict[str, Tensor]) -> None:
        """Takes in one process's share of the losses of the next step; waits for no device."""
        self.waiting.append(losses)

    def fetch(self) -> list[Row]:
        """The rows since the last call, by one exchange for all. Raises UserError naming the first step not finite."""
        if not self.waiting:
            return []
        values = torch.stack([value for losses in self.waiting for value in losses.values()])
        told = iter(self.runtime.mean(values).tolist())
        new = [{name: next(told) for name in losses} for losses in self.waiting]
        self.waiting.clear()
        for row in new:
            if not all(map(math.isfinite, row.values())):
                raise UserError(
                    f"step {len(self.rows)}: loss is not finite, {row}; lower the learning rate or use precision fp32"
                )
            self.rows.append(row)
        return new


class Display:
    """A bar with losses, learning rate, steps per second, time left and peak memory; lines where no terminal is."""

    def __init__(self, title: str, first: int, total: int, runtime: Runtime) -> None:
        self.title, self.first, self.total, self.runtime = title, first, total, runtime
        self.visible = bool(title) and runtime.is_main
        self.started = self.spoken = time.monotonic()
        columns = ("{task.description}", BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, TextColumn("{task.fields[told]}"), disable=not self.visible or bool(Bar.open))
        self.task = self.bar.add_task(title, total=total, completed=first, told="")

    def __enter__(self) -> Self:
        if self.visible and sys.stderr.isatty():
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def show(self, done: int, row: Row, rate: float) -> None:
        """Tells of the last fetched step."""
        if not self.visible:
            if self.runtime.is_main:
                advance_bar(done / self.total)
            return
        now = time.monotonic()
        speed = (done - self.first) / max(now - self.started, 1e-9)
        losses = " ".join(f"{name} {value:.4g}" for name, value in row.items())
        told = f"{losses} | lr {rate:.3g} | {speed:.3g} steps/s | {self.runtime.peak_memory():.1f} GB"
        if sys.stderr.isatty():
            self.bar.update(self.task, completed=done, told=told)
        if now - self.spoken >= QUIET or done == self.total:
            self.spoken = now
            left = (self.total - done) / max(speed, 1e-9)
            progress.steps.info("%s %d/%d | %s | %.0f s left", self.title, done, self.total, told, left)
