"""The adversary of an objective: its own optimiser, from its own step on, and resumed with everything else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.core.recipes import AdversaryRecipe, Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, dihedral
from pipeline.training.loop import fit
from pipeline.training.strategy import trainable_parameters
from tests.launched import launch
from tests.toy_adversary import BEGINS, STEPS, Duel, train_duel
from tests.toy_training import pairs

ALONE = Runtime.alone(1)


def furthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.mark.parametrize("stop", [4, 8, 11])
def test_a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    """Killed before the adversary begins (step 5), and with its optimiser under way."""
    rows, whole = train_duel(ALONE, None, None)
    assert train_duel(ALONE, tmp_path, stop) is None
    resumed_rows, resumed = train_duel(ALONE, tmp_path, None)
    assert resumed_rows == rows
    assert furthest(resumed, whole) == 0


def test_the_checkpoint_holds_the_optimiser_of_the_adversary(tmp_path: Path) -> None:
    train_duel(ALONE, tmp_path, None)
    (path,) = (tmp_path / "checkpoints").glob("*.pt")
    state = torch.load(path, weights_only=True)
    moments = state["adversary"]["state"]
    assert len(moments) == 4 and {int(one["step"]) for one in moments.values()} == {STEPS - 5}
    assert {name for name in state["weights"] if name.startswith("adversary.")} == {
        f"adversary.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    }


def test_the_adversary_rests_until_a_loss_reaches_it() -> None:
    rows, _ = train_duel(ALONE, None, None)
    first = next(step for step in range(STEPS) if step / STEPS >= BEGINS)
    assert ["adversary" in row for row in rows] == [step >= first for step in range(STEPS)]
    objective = Duel()
    before = [weight.clone() for weight in objective.adversary.parameters()]
    recipe = Recipe(STEPS, 1e-2, adversary=AdversaryRecipe(1e-2))
    batches = Batches(pairs(), 4, "seed", dihedral)
    objective.forward = Quiet(objective)  # type: ignore[method-assign]
    fit(objective, batches, recipe, ALONE)
    assert all(torch.equal(a, b) for a, b in zip(before, objective.adversary.parameters(), strict=True))


class Quiet:
    """The losses of the first step, whatever the progress."""

    def __init__(self, objective: Duel) -> None:
        self.of = type(objective).forward.__get__(objective)

    def __call__(self, batch: object, progress: float) -> object:
        return self.of(batch, 0.0)


def test_a_step_of_the_adversary_is_that_of_its_own_adam() -> None:
    """Against autograd by hand: neither the clipping nor the rate of the objective touches it."""
    objective, twin = Duel().double(), Duel().double()
    recipe = Recipe(1, 1e-2, max_grad_norm=1e-3, adversary=AdversaryRecipe(0.05, (0.5, 0.9)))
    batch = replace(Batches(pairs(), 4, "seed", dihedral).batch(0))
    batch = replace(batch, image=batch.image.double())

    class One:
        batch_size, seed = 4, "seed"

        def batch(self, step: int, rank: int, world: int) -> object:
            return batch

    objective.forward = Late(objective)  # type: ignore[method-assign]
    fit(objective, One(), recipe, ALONE)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(twin.adversary.parameters(), 0.05, (0.5, 0.9))
    twin(batch, 1.0)["adversary"].backward()
    optimizer.step()
    for ours, theirs in zip(objective.adversary.parameters(), twin.adversary.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-14, rtol=0)


class Late(Quiet):
    """All losses, whatever the progress."""

    def __call__(self, batch: object, progress: float) -> object:
        return self.of(batch, 1.0)


def test_micro_batches_add_up_to_the_batch() -> None:
    (rows, whole), (parts_rows, parts) = train_duel(ALONE, None, None), train_duel(ALONE, None, None, micro_batch=1)
    assert furthest(parts, whole) < 1e-9
    assert parts_rows[-1] == pytest.approx(rows[-1], rel=1e-9)


def test_the_adversary_is_no_weight_of_the_objective() -> None:
    objective = Duel()
    assert len(trainable_parameters(objective)) == len(list(objective.maker.parameters()))


def test_sharded_launches_are_refused() -> None:
    recipe = Recipe(1, 1e-2, adversary=AdversaryRecipe(1e-2))
    with pytest.raises(UserError, match=r"a discriminator is kept whole .* cannot be sharded \(fsdp2\)"):
        fit(Duel(), Batches(pairs(), 4, "seed"), recipe, Runtime(torch.device("cpu"), 0, 2, sharding="fsdp2"))


@pytest.mark.dist
@pytest.mark.parametrize("micro_batch", [None, 1])
def test_two_processes_train_the_weights_of_one_and_resume_bit_for_bit(tmp_path: Path, micro_batch: int | None) -> None:
    rows, alone = train_duel(ALONE, None, None)
    (whole_rows, whole), _ = launch(2, train_duel, None, None, micro_batch)
    assert furthest(whole, alone) < 1e-9
    assert whole_rows[-1] == pytest.approx(rows[-1], rel=1e-9)
    assert launch(2, train_duel, tmp_path, 8, micro_batch) == [None, None]
    for resumed_rows, resumed in launch(2, train_duel, tmp_path, None, micro_batch):
        assert resumed_rows == whole_rows
        assert furthest(resumed, whole) == 0
