"""A toy that trains in a moment; also a script, for tests that start real launches: toy_training.py FOLDER."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.contracts import Batch
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, Pairs, dihedral
from pipeline.training.loop import fit, trained_state

Named = dict[str, Tensor]


class Brightness(nn.Module):
    """Predicts an image's mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 1))
        self.layers[1].bias.requires_grad_(False)

    def forward(self, batch: Batch, progress: float) -> Named:
        found = self.layers(batch.image)[:, 0]
        losses = {"error": ((found - batch.image.mean((1, 2, 3))) ** 2).mean()}
        return losses | ({"late": found.pow(2).mean()} if progress > 0.5 else {})


def pairs(size: int = 4, count: int = 10) -> Pairs:
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=rng)
    return Pairs(image, (image[:, 0] > 99).to(torch.uint8), ("",) * count, tuple(f"i{n}" for n in range(count)))


class Doubled:
    """Batches whose images are in float64."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.seed, self.batch_size = batches, batches.seed, batches.batch_size

    def batch(self, step: int, rank: int, world: int) -> Batch:
        given = self.batches.batch(step, rank, world)
        return replace(given, image=given.image.double())


class Interrupted:
    """Batches that stop the run at one step, as a kill would."""

    def __init__(self, batches: Any, stop: int) -> None:
        self.batches, self.stop, self.seed, self.batch_size = batches, stop, batches.seed, batches.batch_size

    def batch(self, step: int, rank: int, world: int) -> Batch:
        if step == self.stop:
            raise KeyboardInterrupt
        return self.batches.batch(step, rank, world)


def train_brightness(runtime: Runtime, folder: Path | None, stop: int | None, settings: dict[str, Any]) -> Any:
    """Rows and weights of a run of 12 steps in float64, or of what is left of it when `stop` comes."""
    objective = Brightness().double()
    batches: Any = Doubled(Batches(pairs(), 4, "seed", dihedral))
    recipe = Recipe(12, 1e-2, schedule="one_cycle", max_grad_norm=1.0, checkpoint_every=3, **settings)
    if stop is not None:
        batches = Interrupted(batches, stop)
    try:
        rows = fit(objective, batches, recipe, runtime, folder)
    except KeyboardInterrupt:
        return None
    return rows, plain(objective)


def plain(objective: nn.Module) -> Named:
    return {name: value.cpu().clone() for name, value in trained_state(objective).items()}


def main(folder: Path) -> None:
    """Trains under whatever launched this, and leaves the main process's weights."""
    runtime = Runtime.start(1)
    _, weights = train_brightness(runtime, None, None, {})
    if runtime.is_main:
        torch.save(weights, folder / "weights.pt")
    runtime.barrier()
    if runtime.world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
