"""The best weights of a run: which are kept, where a run stops, what a resumed run remembers, and falling rates."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.contracts import Batch
from pipeline.core.recipes import PlateauRecipe, Recipe, WarmUpRecipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches
from pipeline.training import schedules
from pipeline.training.callbacks import Callback, Monitoring
from pipeline.training.loop import fit
from pipeline.training.selection import Selection
from tests.toy_training import Interrupted, pairs


class Step(nn.Module):
    """A weight that grows by the learning rate in every step: with a rate of 1 it counts its updates."""

    def __init__(self) -> None:
        super().__init__()
        self.count = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        return {"fall": -self.count}


# AdamW with betas of 0 moves a weight by the learning rate against the sign of its gradient.
RECIPE = Recipe(12, 1.0, weight_decay=0.0, betas=(0.0, 0.0))


class Run:
    """A run whose weights after k steps score `scores[k / 2 - 1]`: one look every two steps."""

    def __init__(self, scores: Sequence[float], patience: int | None = None, min_delta: float = 0.0) -> None:
        self.objective, self.scores = Step(), scores
        self.seen: list[int] = []
        self.selection = Selection(2, self.score, patience, min_delta)

    def score(self) -> float:
        assert not self.objective.training
        updates = round(self.objective.count.item())
        self.seen.append(updates)
        return self.scores[(updates + 1) // 2 - 1]

    def fit(self, recipe: Recipe = RECIPE, folder: Path | None = None, stop: int | None = None) -> int:
        """Return the number of steps that have been made; with `stop` the run is killed before that step."""
        batches: Any = Batches(pairs(), 2, "seed")
        watched = Monitoring(selection=self.selection)
        if stop is None:
            return len(fit(self.objective, batches, recipe, Runtime.alone(1), folder, "", watched))
        batches = Interrupted(batches, stop)
        with pytest.raises(KeyboardInterrupt):
            fit(self.objective, batches, recipe, Runtime.alone(1), folder, "", watched)
        return stop

    @property
    def kept(self) -> int:
        """The updates of the weights that the run left in its objective."""
        return round(self.objective.count.item())


def test_the_weights_of_the_highest_score_are_kept_neither_the_first_nor_the_last() -> None:
    run = Run([0.2, 0.5, 0.9, 0.4, 0.9, 0.1])
    assert run.fit() == 12
    assert run.seen == [2, 4, 6, 8, 10, 12]
    assert run.kept == 6  # of equal scores the first
    assert run.selection.best == (6, 0.9)
    assert not run.objective.training


def test_the_last_step_is_scored_wherever_it_falls() -> None:
    run = Run([0.2, 0.5, 0.9])
    run.fit(replace(RECIPE, max_steps=5))
    assert run.seen == [2, 4, 5]
    assert run.kept == 5


@pytest.mark.parametrize("stop", [3, 6, 7, 11])
def test_a_run_resumed_in_the_middle_makes_the_same_choice(stop: int, tmp_path: Path) -> None:
    scores = [0.2, 0.5, 0.9, 0.4, 0.6, 0.1]
    recipe = replace(RECIPE, checkpoint_every=2)
    Run(scores).fit(recipe, tmp_path, stop)
    resumed = Run(scores)
    assert resumed.fit(recipe, tmp_path) == 12
    assert resumed.seen[0] > 2  # it did not start again
    assert resumed.kept == 6
    assert resumed.selection.scores == list(zip(range(2, 13, 2), scores, strict=True))


@pytest.mark.parametrize(
    ("patience", "min_delta", "steps", "kept"), [(2, 0.0, 10, 6), (3, 0.0, 12, 12), (2, 0.2, 8, 6), (None, 0.2, 12, 12)]
)
def test_training_stops_where_scores_do_not_rise(patience: int | None, min_delta: float, steps: int, kept: int) -> None:
    """Scores rise by 0.3 and 0.1, fall, and rise at the end."""
    run = Run([0.2, 0.5, 0.6, 0.4, 0.3, 0.7], patience, min_delta)
    assert run.fit() == steps
    assert run.kept == kept


def test_a_run_that_has_stopped_stays_stopped_when_it_is_resumed(tmp_path: Path) -> None:
    recipe = replace(RECIPE, checkpoint_every=2)
    scores = [0.5, 0.4, 0.3, 0.9, 0.9, 0.9]
    assert Run(scores, 2).fit(recipe, tmp_path) == 6
    again = Run(scores, 2)
    assert again.fit(recipe, tmp_path) == 6
    assert again.seen == []
    assert again.kept == 2


def test_averaged_weights_are_those_that_are_scored_and_kept() -> None:
    run = Run([0.0, 1.0])
    run.selection.score = lambda: run.objective.count.item()  # the average: below the number of updates
    run.fit(replace(RECIPE, max_steps=4, ema_decay=0.5))
    assert run.selection.best is not None
    step, score = run.selection.best
    assert step == 4
    assert score == pytest.approx(run.objective.count.item())
    assert 2 < score < 4


def test_rows_of_callbacks_survive_a_restart(tmp_path: Path) -> None:
    recipe, rows = replace(RECIPE, checkpoint_every=2), []
    for stop in (5, None):
        rows = []
        batches: Any = Batches(pairs(), 2, "seed")
        batches = batches if stop is None else Interrupted(batches, stop)
        watched = Monitoring((Callback(3, lambda step, rows=rows: rows.append({"step": step}), rows),))
        try:
            fit(Step(), batches, recipe, Runtime.alone(1), tmp_path, monitoring=watched)
        except KeyboardInterrupt:
            assert rows == [{"step": 3}]
    assert rows == [{"step": step} for step in (3, 6, 9, 12)]


def rates(recipe: Recipe, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], recipe.learning_rate)
    schedule, found = schedules.build(optimizer, recipe), []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return found


def test_a_warm_up_rises_in_a_line_and_falls_as_a_cosine_to_its_end() -> None:
    """By hand, as optax.warmup_cosine_decay_schedule counts: 10 steps in all, of which 4 rise."""
    warm_up = WarmUpRecipe(steps=4, first_rate=0.2, last_rate=0.1, decay_steps=10)
    found = rates(Recipe(14, 1.0, schedule="warmup_cosine", warm_up=warm_up), 14)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[7] == pytest.approx(0.1 + 0.9 * 0.5)  # half of the cosine
    assert found[10:] == pytest.approx([0.1] * 4)


def test_a_cosine_without_an_end_of_its_own_ends_with_the_schedule() -> None:
    warm_up = WarmUpRecipe(steps=2, first_rate=0.0, last_rate=0.0)
    found = rates(Recipe(8, 1.0, schedule="warmup_cosine", warm_up=warm_up, schedule_steps=6), 8)
    assert found[4] == pytest.approx(0.5)
    assert found[6:] == pytest.approx([0.0, 0.0])


class Flat(Step):
    """Its loss is 1, whatever its weight."""

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        return {"one": 1 + (self.count.detach() - self.count)}


def test_the_rate_falls_where_the_mean_training_loss_stands_still() -> None:
    """Looks after 2, 4, 6 ... steps; the first sets the best, two are let pass, the next halves the rate."""
    objective, recipe = Flat(), replace(RECIPE, schedule="plateau", plateau=PlateauRecipe(0.5, 2, every=2))
    fit(objective, Batches(pairs(), 2, "seed"), recipe, Runtime.alone(1))
    assert objective.count.item() == pytest.approx(8 + 0.5 * 4)


@pytest.mark.parametrize("stop", [None, 5, 9])
def test_the_rate_falls_where_the_score_of_the_selection_stands_still(stop: int | None, tmp_path: Path) -> None:
    """The look after 2 steps sets the best, one is let pass, and those after 6 and 10 halve the rate."""
    recipe = replace(RECIPE, schedule="plateau", plateau=PlateauRecipe(0.5, 1), checkpoint_every=2)
    counts, run = list[float](), Run([])
    for until in (stop, None) if stop else (None,):
        counts.clear()
        run = Run([])
        run.selection.score = lambda run=run: (counts.append(run.objective.count.item()), 0.5)[1]
        run.fit(recipe, tmp_path, until)
    assert counts == [2, 4, 6, 7, 8, 8.5][-len(counts) :]
    assert len(counts) == 6 - (stop or 0) // 2
    assert run.kept == 2
