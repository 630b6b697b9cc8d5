"""A training that is killed at a step, by an exception that stands for the kill."""

from typing import Any

import pytest

from pipeline.training import loop


class Killed(Exception):
    """Stands for a kill."""


def kill_at(monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Kill the `stop`-th optimiser step from now on, counted over all trainings from 1."""
    steps, advance = [0], loop.TrainingRun.advance

    def killing(run: Any, batch: Any, step: int) -> None:
        steps[0] += 1
        if steps[0] == stop:
            raise Killed
        advance(run, batch, step)

    monkeypatch.setattr(loop.TrainingRun, "advance", killing)
