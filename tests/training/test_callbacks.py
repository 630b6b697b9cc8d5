"""Watching and continuing a run: named first bad step, kept checkpoints, other params, longer runs, looks, trackers."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, dihedral
from pipeline.training import loop
from pipeline.training.callbacks import Callback, Losses, Monitoring
from pipeline.training.loop import fit
from tests.toy_training import Brightness, Interrupted, pairs, plain

RECIPE = Recipe(12, 1e-2, schedule="one_cycle", checkpoint_every=3, identity="this")


def run(
    recipe: Recipe, folder: Path | None, objective: nn.Module | None = None, monitoring: Monitoring | None = None
) -> Any:
    objective = Brightness() if objective is None else objective
    batches = Batches(pairs(), 4, "seed", dihedral)
    return fit(objective, batches, recipe, Runtime.alone(), folder, "", monitoring or Monitoring()), plain(objective)


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Bad(Brightness):
    """Its loss is infinite in one step only."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        losses = super().forward(batch, progress)
        return losses | ({"error": losses["error"] * float("inf")} if round(progress * 12) == self.step else {})


@pytest.mark.parametrize("step", [0, 4, 11])
def test_first_bad_step_is_named_and_nothing_is_saved_after_it(step: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^step {step}: loss is not finite, .*'error': (inf|nan)"):
        run(replace(RECIPE, keep_checkpoints=9), tmp_path, Bad(step))
    saved = sorted(int(path.stem) for path in tmp_path.glob("checkpoints/*.pt"))
    assert saved == [done for done in (3, 6, 9, 12) if done <= step]


def test_losses_wait_on_the_device_until_they_are_fetched() -> None:
    losses = Losses([{"a": 0.5}], Runtime.alone())
    losses.add({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    losses.add({"a": torch.tensor(3.0)})
    assert losses.rows == [{"a": 0.5}]
    assert losses.fetch() == [{"a": 1.0, "b": 2.0}, {"a": 3.0}]
    assert losses.fetch() == []
    assert len(losses.rows) == 3


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    run(replace(RECIPE, keep_checkpoints=2), tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["00000009.pt", "00000012.pt"]


def test_what_a_killed_process_left_half_written_is_cleared(tmp_path: Path) -> None:
    left_behind = tmp_path / "checkpoints" / ".00000003.pt.17.tmp"
    left_behind.parent.mkdir()
    left_behind.write_bytes(b"half")
    run(RECIPE, tmp_path)
    assert not left_behind.exists()


def test_checkpoint_of_other_params_is_refused(tmp_path: Path) -> None:
    run(RECIPE, tmp_path)
    with pytest.raises(
        UserError, match=r"00000012\.pt is a checkpoint of other params, data or method \(this, this run"
    ):
        run(replace(RECIPE, identity="other"), tmp_path)


def test_finished_run_goes_on_as_if_it_had_been_longer_from_the_start(tmp_path: Path) -> None:
    long = replace(RECIPE, max_steps=20, schedule_steps=12)
    rows, whole = run(long, None)
    first, _ = run(RECIPE, tmp_path)  # its schedule has 12 steps, as max_steps says
    longer, weights = run(long, tmp_path)
    assert first == rows[:12]
    assert longer == rows
    assert equal(weights, whole)


def test_shorter_run_takes_no_later_checkpoint(tmp_path: Path) -> None:
    long = replace(RECIPE, max_steps=20, schedule_steps=12, keep_checkpoints=1)
    run(long, tmp_path)
    rows, weights = run(replace(long, max_steps=14), tmp_path)
    assert len(rows) == 14
    assert equal(weights, run(replace(long, max_steps=14), None)[1])
    assert (tmp_path / "checkpoints" / "00000020.pt").is_file()


def test_progress_and_learning_rate_stay_at_the_end_of_the_schedule() -> None:
    seen: list[tuple[float, float]] = []

    class Seen(Brightness):
        def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
            seen.append((progress, held.rate))
            return super().forward(batch, progress)

    recipe = Recipe(6, 1e-2, schedule="linear", schedule_steps=4)
    held = loop.TrainingRun(Seen(), recipe, Runtime.alone(), None)
    batches = Batches(pairs(), 4, "seed")
    for step in range(6):
        held.advance(batches.batch(step), step)
    assert [progress for progress, _ in seen] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert [rate / 1e-2 for _, rate in seen] == pytest.approx([1, 0.7525, 0.505, 0.2575, 0.2575, 0.2575])


def test_average_is_looked_at_and_left_behind_and_survives_a_kill(tmp_path: Path) -> None:
    recipe = replace(RECIPE, ema_decay=0.9)
    looked: list[dict[str, Tensor]] = []
    objective = Brightness()
    monitoring = Monitoring((Callback(12, lambda done: looked.append(plain(objective))),))
    _, averaged = run(recipe, None, objective, monitoring)
    _, raw = run(RECIPE, None)
    assert not equal(averaged, raw)
    assert equal(looked[0], averaged)
    with pytest.raises(KeyboardInterrupt):
        batches: Any = Interrupted(Batches(pairs(), 4, "seed", dihedral), 8)
        fit(Brightness(), batches, recipe, Runtime.alone(), tmp_path)
    assert equal(run(recipe, tmp_path)[1], averaged)


def test_looks_change_no_weight_and_come_before_the_checkpoint_of_their_step(tmp_path: Path) -> None:
    there: list[tuple[int, bool]] = []

    def at(done: int) -> None:
        torch.rand(3)
        there.append((done, (tmp_path / "checkpoints" / f"{done:08d}.pt").exists()))

    _, watched = run(RECIPE, tmp_path, monitoring=Monitoring((Callback(6, at),)))
    assert there == [(6, False), (12, False)]
    assert equal(watched, run(RECIPE, None)[1])


def test_tracker_gets_every_step_once_and_names_only() -> None:
    sent: list[tuple[int, dict[str, float]]] = []

    class Service:
        def log(self, values: dict[str, float], step: int) -> None:
            sent.append((step, values))

    rows, _ = run(RECIPE, None, monitoring=Monitoring(tracker=Service()))  # type: ignore[arg-type]
    assert [step for step, _ in sent] == list(range(12))
    assert sent[3][1]["train/error"] == rows[3]["error"]
    assert set(sent[11][1]) == {"train/error", "train/late", "learning_rate"}


def test_missing_tracker_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="tracker wandb needs the package wandb; install it, or set tracker: none"):
        Runtime.alone().tracker("wandb", tmp_path, "toy")
    assert Runtime.alone().tracker("none", tmp_path, "toy") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [({"max_steps": 0}, "max_steps is 0; it must be above 0"), ({"precision": "fp8"}, "precision is 'fp8'")],
)
def test_impossible_recipes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(replace(RECIPE, **change), None)


def test_line_tells_losses_rate_speed_and_memory(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fit(Brightness(), Batches(pairs(), 4, "seed"), RECIPE, Runtime.alone(), title="toy")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "pipeline.progress"]
    assert line.startswith("toy 12/12 | error ")
    for told in ("late ", "lr ", "steps/s", " GB", " s left"):
        assert told in line
