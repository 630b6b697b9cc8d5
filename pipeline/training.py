"""One training loop for every objective. It knows nothing of masks, text or diffusion."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import files, seeding, tracking
from pipeline.contracts import Batch, Recipe
from pipeline.data.loading import Batches
from pipeline.errors import UserError
from pipeline.runtime import Runtime

Row = dict[str, float]


def fit(
    objective: nn.Module,
    batches: Batches,
    recipe: Recipe,
    runtime: Runtime,
    folder: Path | None = None,
    title: str = "",
) -> list[Row]:
    """Trains to `recipe.max_steps` and returns the losses of every step.

    With a folder and `recipe.checkpoint_every` the same call resumes where a killed one stopped, and a resumed run
    equals an uninterrupted one bit for bit on the same machine. Raises UserError where a loss is not finite.
    """
    _check_shares(batches, runtime)
    wrapped = runtime.wrap(objective)
    objective.train()
    weights = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, recipe.learning_rate, recipe.betas, weight_decay=recipe.weight_decay)
    schedule = _schedule(optimizer, recipe)
    checkpoint = Checkpoint(folder, objective, optimizer, schedule)
    rows = checkpoint.restore(runtime)
    steps = range(len(rows), recipe.max_steps)
    for step in tracking.progress(steps, title, visible=bool(title) and runtime.is_main):
        seeding.seed_everything(batches.seed, "dropout", step, runtime.rank)
        batch = batches.batch(step, runtime.rank, runtime.world).to(runtime.device)
        rows.append(_accumulate(wrapped, batch, step / recipe.max_steps, recipe, runtime))
        if not all(map(math.isfinite, rows[-1].values())):
            raise UserError(
                f"step {step}: loss is not finite, {rows[-1]}; lower the learning rate or use precision fp32"
            )
        if recipe.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(weights, recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if recipe.checkpoint_every and (step + 1) % recipe.checkpoint_every == 0:
            checkpoint.save(rows, runtime)
        if folder is not None and step + 1 in recipe.snapshots and runtime.is_main:
            with files.replacing(snapshot(folder, step + 1)) as temporary:
                torch.save(trained(objective), temporary)
    objective.eval()
    return rows


def _accumulate(wrapped: nn.Module, batch: Batch, progress: float, recipe: Recipe, runtime: Runtime) -> Row:
    """Adds the gradients of all micro-batches; a mean over the micro-batches weighted by their size."""
    total: dict[str, float] = {}
    parts = list(_parts(batch, recipe.micro_batch or len(batch)))
    for part in parts:
        share = len(part) / len(batch)
        with runtime.no_sync(wrapped, last=part is parts[-1]):
            with runtime.autocast(recipe.precision):
                losses: dict[str, Tensor] = wrapped(part, progress)
            (sum(losses.values(), torch.zeros((), device=runtime.device)) * share).backward()
        for name, loss in losses.items():
            total[name] = total.get(name, 0.0) + float(loss.detach()) * share
    return total


def _parts(batch: Batch, size: int) -> Iterator[Batch]:
    return (batch.part(start, start + size) for start in range(0, len(batch), size))


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.schedule == "one_cycle":
        total, rate = max(recipe.max_steps, 4), recipe.learning_rate
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rate, total_steps=total, pct_start=0.1, cycle_momentum=False
        )
    end = 1e-2 if recipe.schedule == "linear" else 1.0
    return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, end, total_iters=recipe.max_steps)


def _check_shares(batches: Batches, runtime: Runtime) -> None:
    if batches.batch_size % runtime.world:
        raise UserError(
            f"a global batch of {batches.batch_size} cannot be dealt evenly to {runtime.world} processes;"
            " make it a multiple or launch another number"
        )


class Checkpoint:
    """Everything of a training run that must survive a crash: weights, optimiser, schedule, losses so far."""

    def __init__(self, folder: Path | None, objective: nn.Module, optimizer: Any, schedule: Any) -> None:
        self.path = None if folder is None else folder / "checkpoint.pt"
        self.objective, self.optimizer, self.schedule = objective, optimizer, schedule

    def save(self, rows: list[Row], runtime: Runtime) -> None:
        """Writes the state of the main process (all processes hold the same) at once or not at all."""
        if self.path is None or not runtime.is_main:
            return
        state = {"rows": rows, "weights": trained(self.objective)}
        state |= {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}
        with files.replacing(self.path) as temporary:
            torch.save(state, temporary)

    def restore(self, runtime: Runtime) -> list[Row]:
        """Loads the saved state where there is one, and returns the losses so far."""
        if self.path is None or not self.path.is_file():
            return []
        try:
            state = torch.load(self.path, map_location=runtime.device, weights_only=True)
        except Exception as error:
            raise UserError(f"{self.path} is damaged ({type(error).__name__}); remove it to start again") from error
        self.objective.load_state_dict(state["weights"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return state["rows"]


def snapshot(folder: Path, step: int) -> Path:
    """Where `fit` keeps the trained weights after so many steps (recipe.snapshots)."""
    return folder / "snapshots" / f"{step:06d}.pt"


def trained(objective: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and all buffers (batch-norm statistics) of an objective by name."""
    kept = {name: p.detach() for name, p in objective.named_parameters() if p.requires_grad}
    return kept | dict(objective.named_buffers())
