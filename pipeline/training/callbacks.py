"""Monitoring of a run: losses by name over all processes; rate, speed and memory on the main one; callbacks."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from pipeline.core import progress
from pipeline.core.errors import UserError
from pipeline.core.progress import Bar, advance_bar
from pipeline.core.runtime import Runtime, Tracker
from pipeline.training.clock import Clock
from pipeline.training.selection import Selection

LossRow = dict[str, float]  # losses of one optimiser step by name
QUIET = 60.0  # seconds between two lines where there is no terminal


@dataclass(frozen=True)
class Callback:
    """A function that all processes call together every so many optimiser steps, with full weights."""

    every_n_steps: int
    on_step_end: Callable[[int], None]  # takes the number of completed steps
    rows: list[Any] | None = None  # plain values that it appends to; a resumed run starts with those of its checkpoint


@dataclass(frozen=True)
class Monitoring:
    """What looks at a run: callbacks and a tracker, which change no weight, and what chooses the weights to keep."""

    callbacks: tuple[Callback, ...] = ()
    tracker: Tracker | None = None  # on the main process only
    selection: Selection | None = None  # None: the last weights are kept
    clock: Clock | None = None  # on the main process only


class Losses:
    """Named losses of every step, kept on the device and fetched now and then as means over all processes."""

    def __init__(self, rows: list[LossRow], runtime: Runtime) -> None:
        self.rows, self.runtime = rows, runtime
        self.pending: list[dict[str, Tensor]] = []

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add one process's share of the losses of the next step, without waiting for the device."""
        self.pending.append(losses)

    def fetch(self) -> list[LossRow]:
        """Return the rows since the last call, by one all-reduce. Raises UserError naming the first step not finite."""
        if not self.pending:
            return []
        values = [value for losses in self.pending for value in losses.values()]  # an empty Poisson batch has none
        means = iter(self.runtime.mean(torch.stack(values)).tolist() if values else ())
        new: list[LossRow] = [{name: next(means) for name in losses} for losses in self.pending]
        self.pending.clear()
        for row in new:
            if not all(map(math.isfinite, row.values())):
                raise UserError(
                    f"step {len(self.rows)}: loss is not finite, {row}; lower the learning rate or use precision fp32"
                )
            self.rows.append(row)
        return new


class Display:
    """A bar with losses, learning rate, steps per second, time left and peak memory; lines without a terminal."""

    def __init__(self, title: str, first: int, total: int, runtime: Runtime) -> None:
        self.title, self.first, self.total, self.runtime = title, first, total, runtime
        self.visible = bool(title) and runtime.is_main
        self.started = self.logged = time.monotonic()
        columns = ("{task.description}", BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, TextColumn("{task.fields[message]}"), disable=not self.visible or bool(Bar.open))
        self.task = self.bar.add_task(title, total=total, completed=first, message="")

    def __enter__(self) -> Self:
        if self.visible and sys.stderr.isatty():
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, done: int, row: LossRow, rate: float) -> None:
        """Show the last fetched step."""
        if not self.visible:
            if self.runtime.is_main:
                advance_bar(done / self.total)
            return
        now = time.monotonic()
        speed = (done - self.first) / max(now - self.started, 1e-9)
        losses = " ".join(f"{name} {value:.4g}" for name, value in row.items())
        message = f"{losses} | lr {rate:.3g} | {speed:.3g} steps/s | {self.runtime.peak_memory():.1f} GB"
        if sys.stderr.isatty():
            self.bar.update(self.task, completed=done, message=message)
        if now - self.logged >= QUIET or done == self.total:
            self.logged = now
            left = (self.total - done) / max(speed, 1e-9)
            progress.steps.info("%s %d/%d | %s | %.0f s left", self.title, done, self.total, message, left)
