"""A toy with an adversary that begins late, trained in a moment, also by several processes."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.core.contracts import Batch
from pipeline.core.recipes import AdversaryRecipe, Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, dihedral
from pipeline.training.loop import fit
from tests.toy_training import Doubled, Interrupted, Named, pairs, plain

STEPS, BEGINS = 12, 0.4


class Duel(nn.Module):
    """One number per image, pushed up by what the adversary thinks of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maker = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 2))
        self.adversary = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, batch: Batch, progress: float) -> Named:
        wanted = torch.stack([batch.image.mean((1, 2, 3)), batch.image.amax((1, 2, 3))], 1)
        made: Tensor = self.maker(batch.image)
        losses = {"error": (made - wanted).square().mean()}
        if progress >= BEGINS:
            fixed = {name: weight.detach() for name, weight in self.adversary.named_parameters()}
            losses["adversarial"] = -0.1 * functional_call(self.adversary, fixed, (made,)).mean()
            real, false = self.adversary(wanted), self.adversary(made.detach())
            losses["adversary"] = (1 - real).relu().mean() + (1 + false).relu().mean()
        return losses


def train_duel(runtime: Runtime, folder: Path | None, stop: int | None, micro_batch: int | None = None) -> Any:
    """Rows and weights of a run in float64; None where it was stopped."""
    objective = Duel().double()
    batches: Any = Doubled(Batches(pairs(), 4, "seed", dihedral))
    recipe = Recipe(
        STEPS,
        1e-2,
        schedule="one_cycle",
        max_grad_norm=1.0,
        micro_batch=micro_batch,
        checkpoint_every=3,
        ema_decay=0.9,
        adversary=AdversaryRecipe(1e-2, (0.5, 0.9)),
    )
    if stop is not None:
        batches = Interrupted(batches, stop)
    try:
        rows = fit(objective, batches, recipe, runtime, folder)
    except KeyboardInterrupt:
        return None
    return rows, plain(objective)
