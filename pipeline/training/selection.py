"""Keep the weights of a run that score highest on what is not trained on, and end a run that no longer improves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Selection:
    """The scores of a run every so many optimiser steps and after the last, and the weights of the highest score.

    Of equal scores the earliest counts. All processes score, with full weights (averaged where there is an average) in
    evaluation mode; the score of the main process decides for all.
    """

    every_n_steps: int
    score: Callable[[], float]  # of the objective's weights; higher is better
    patience: int | None = None  # scores in a row without progress after which training stops; None: it never does
    min_delta: float = 0.0  # by how much a score must exceed the best before it to be progress
    scores: list[tuple[int, float]] = field(default_factory=list)  # completed steps, score
    weights: dict[str, Tensor] | None = None  # of the highest score, on the CPU

    @property
    def best(self) -> tuple[int, float] | None:
        """The completed steps and the score of the weights that are kept; None before the first score."""
        return max(self.scores, key=lambda scored: scored[1], default=None)

    @property
    def stalled(self) -> int:
        """How many scores in a row, up to the last, brought no progress."""
        reference, count = float("-inf"), 0
        for _, score in self.scores:
            reference, count = (score, 0) if score > reference + self.min_delta else (reference, count + 1)
        return count

    @property
    def is_stopped(self) -> bool:
        """Whether training is to stop."""
        return self.patience is not None and self.stalled >= self.patience

    def is_due(self, done: int, last: int) -> bool:
        """Return whether the weights are scored after so many steps of a training of `last`."""
        return done % self.every_n_steps == 0 or done == last

    def add(self, step: int, score: float, weights: Mapping[str, Tensor]) -> None:
        """Add the score of the weights after `step` steps; a copy of them is kept where it is the highest."""
        if self.best is None or score > self.best[1]:
            self.weights = {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}
        self.scores.append((step, score))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {"scores": self.scores, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.scores = [(int(step), float(score)) for step, score in state["scores"]]
        self.weights = None if state["weights"] is None else dict(state["weights"])
