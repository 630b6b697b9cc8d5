"""The training loop: resumed equals uninterrupted, micro-batches equal one batch, two shares make one batch."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, Pairs, dihedral
from pipeline.training.loop import fit, snapshot_path


class Brightness(nn.Module):
    """Predicts an image's mean through a layer with dropout, so that the global random stream matters."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Dropout(dropout), nn.Linear(8, 1))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        found = self.layers(batch.image)[:, 0]
        return {"error": ((found - batch.image.mean((1, 2, 3))) ** 2).mean(), "late": progress * found.pow(2).mean()}


@pytest.fixture
def pairs() -> Pairs:
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (10, 3, 4, 4), dtype=torch.uint8, generator=rng)
    ids = tuple(f"i{n}" for n in range(10))
    return Pairs(image, (image[:, 0] > 99).to(torch.uint8), ("",) * 10, ids)


def train(pairs: Pairs, folder: Path | None, steps: int, total: int = 12) -> tuple[list[dict[str, float]], Brightness]:
    """Trains `steps` of `total` steps, as a run killed there would have."""
    objective = Brightness()
    batches = Batches(pairs, 4, "seed", dihedral)
    recipe = Recipe(total, 1e-2, schedule="one_cycle", max_grad_norm=1.0, checkpoint_every=3)
    if steps < total:
        with pytest.raises(KeyboardInterrupt):
            fit(objective, Interrupted(batches, steps), recipe, Runtime.alone(), folder)  # type: ignore[arg-type]
        return [], objective
    return fit(objective, batches, recipe, Runtime.alone(), folder), objective


class Interrupted:
    """Batches that stop the run at one step."""

    def __init__(self, batches: Batches, stop: int) -> None:
        self.batches, self.stop, self.seed, self.batch_size = batches, stop, batches.seed, batches.batch_size

    def batch(self, step: int, rank: int, world: int) -> Batch:
        if step == self.stop:
            raise KeyboardInterrupt
        return self.batches.batch(step, rank, world)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(pairs: Pairs, tmp_path: Path) -> None:
    whole_rows, whole = train(pairs, None, 12)
    train(pairs, tmp_path, 8)  # the last checkpoint is that of step 6
    rows, resumed = train(pairs, tmp_path, 12)
    assert rows == whole_rows
    assert same(whole, resumed)
    assert not same(whole, Brightness())


def test_damaged_checkpoint_is_named(pairs: Pairs, tmp_path: Path) -> None:
    train(pairs, tmp_path, 8)
    path = tmp_path / "checkpoints" / "00000006.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"00000006\.pt is damaged"):
        train(pairs, tmp_path, 12)


def test_micro_batches_add_up_to_the_batch(pairs: Pairs) -> None:
    ends = []
    for micro in (None, 1, 3):
        objective = Brightness(dropout=0.0).double()
        batches = Batches(pairs, 4, "seed", lambda image, mask, rng: (image.double(), mask))
        fit(objective, batches, Recipe(5, 1e-2, micro_batch=micro), Runtime.alone())
        ends.append(objective.layers[1].weight.detach())
    assert torch.allclose(ends[0], ends[1], atol=1e-12)
    assert torch.allclose(ends[0], ends[2], atol=1e-12)


def test_two_processes_share_the_batch_of_one(pairs: Pairs) -> None:
    batches = Batches(pairs, 4, "seed", dihedral)
    whole = batches.batch(7)
    shares = [batches.batch(7, rank, 2) for rank in (0, 1)]
    for rank, share in enumerate(shares):
        assert share.streams == whole.streams[rank::2]
        assert torch.equal(share.image, whole.image[rank::2])


def test_every_sample_is_seen_once_per_pass(pairs: Pairs) -> None:
    batches = Batches(pairs, 5, "seed")
    for turn in range(3):
        assert sorted(batches.plan(2 * turn) + batches.plan(2 * turn + 1)) == list(range(10))
    assert batches.plan(0) + batches.plan(1) != batches.plan(2) + batches.plan(3)
    assert batches.plan(0) != Batches(pairs, 5, "other").plan(0)


def test_loss_that_is_not_finite_stops_the_run_and_names_the_step(pairs: Pairs) -> None:
    class Broken(Brightness):
        def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
            losses = super().forward(batch, progress)
            return {"error": losses["error"] * (float("nan") if progress > 0.5 else 1)}

    with pytest.raises(UserError, match="step 7: loss is not finite"):
        fit(Broken(), Batches(pairs, 4, "seed"), Recipe(12, 1e-2), Runtime.alone())


def test_last_update_that_is_not_finite_is_named(pairs: Pairs) -> None:
    """Its loss was finite, and no later loss tells."""

    class Steep(Brightness):
        def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
            losses = super().forward(batch, progress)
            weight = self.layers[1].bias
            return losses | {"steep": (weight - weight.detach()).sum().sqrt() if progress > 0.8 else losses["late"] * 0}

    with pytest.raises(UserError, match="step 5: its update left weights that are not finite"):
        fit(Steep(), Batches(pairs, 4, "seed"), Recipe(6, 1e-2), Runtime.alone())


def test_uneven_shares_are_refused(pairs: Pairs) -> None:
    three = Runtime(torch.device("cpu"), 0, 3)
    with pytest.raises(UserError, match="global batch of 4 cannot be divided evenly among 3 processes"):
        fit(Brightness(), Batches(pairs, 4, "seed"), Recipe(1, 1e-2), three)


def test_snapshots_hold_the_weights_of_their_steps(pairs: Pairs, tmp_path: Path) -> None:
    objective, recipe = Brightness(), Recipe(4, 1e-2, snapshots=(2, 4))
    fit(objective, Batches(pairs, 4, "seed", dihedral), recipe, Runtime.alone(), tmp_path)
    kept = {step: torch.load(snapshot_path(tmp_path, step), weights_only=True) for step in (2, 4)}
    assert all(torch.equal(kept[4][name], value) for name, value in objective.state_dict().items())
    assert any(not torch.equal(kept[2][name], kept[4][name]) for name in kept[4])


def test_saved_weights_have_the_same_bytes_in_every_folder(pairs: Pairs, tmp_path: Path) -> None:
    """torch.save writes the name of its file into it, which here would be a temporary name with host and process."""
    recipe = Recipe(2, 1e-2, snapshots=(2,), checkpoint_every=2)
    for folder in ("a", "b"):
        fit(Brightness(), Batches(pairs, 4, "seed", dihedral), recipe, Runtime.alone(1), tmp_path / folder)
    saved = [sorted((tmp_path / folder).rglob("*.pt")) for folder in ("a", "b")]
    assert [[path.name for path in paths] for paths in saved] == [["00000002.pt", "000002.pt"]] * 2
    for ours, theirs in zip(*saved, strict=True):
        assert ours.read_bytes() == theirs.read_bytes()
        assert all(part.startswith("archive/") for part in zipfile.ZipFile(ours).namelist())
