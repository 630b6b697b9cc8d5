"""One training loop for every objective. It knows nothing of masks, text or diffusion."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core import files, seeding
from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches
from pipeline.training import adversary, optimizers, schedules
from pipeline.training.adversary import AdversaryOptimizer
from pipeline.training.callbacks import Display, Losses, LossRow, Monitoring
from pipeline.training.checkpoints import Checkpoints, is_intact
from pipeline.training.ema import EMA
from pipeline.training.prefetching import batches_on_device
from pipeline.training.sharding import build_strategy

FETCH = 10  # optimiser steps between two fetches of the losses; each makes the device and all processes wait


def fit(
    objective: nn.Module,
    batches: Batches,
    recipe: Recipe,
    runtime: Runtime,
    folder: Path | None = None,
    title: str = "",
    monitoring: Monitoring = Monitoring(),  # noqa: B008  (frozen)
) -> list[LossRow]:
    """Train to `recipe.max_steps` and return the losses of every step, means over all processes.

    The objective is left with the weights after the last step; with a selection with those of its highest score, and
    the training may stop before `max_steps`.

    With a folder and `recipe.checkpoint_every` the same call resumes where a killed one stopped, and a resumed run
    equals an uninterrupted one bit for bit on the same machine; with `recipe.schedule_steps` a finished run goes on to
    a larger `max_steps`. Raises UserError where a loss is not finite; nothing is saved after that step.
    """
    check_recipe(recipe, batches.batch_size, runtime)
    run = TrainingRun(objective, recipe, runtime, folder, monitoring)
    if monitoring.clock is not None:
        monitoring.clock.start(run.done)
    with Display(title, run.done, recipe.max_steps, runtime) as display:
        for step, batch in batches_on_device(batches, run.remaining, runtime):
            seeding.seed_everything(batches.seed, "dropout", step, runtime.rank)
            run.advance(batch, step)
            done = step + 1
            if run.is_fetched(done):
                new = run.losses.fetch()
                display.update(done, new[-1], run.rate)
                _track(monitoring, done - len(new), new, run.rate)
            for callback in monitoring.callbacks:
                if done % callback.every_n_steps == 0:
                    with run.evaluation():
                        callback.on_step_end(done)
            run.score(done)
            run.save(done)
            if run.is_stopped:
                break
    run.finish()
    return run.losses.rows


def check_recipe(recipe: Recipe, global_batch: int, runtime: Runtime) -> None:
    """Raise UserError where a recipe cannot be followed here, without touching data or weights."""
    if global_batch % runtime.world:
        raise UserError(
            f"a global batch of {global_batch} cannot be divided evenly among {runtime.world} processes;"
            " make it a multiple, or launch another number"
        )
    if recipe.max_steps <= 0:
        raise UserError(f"max_steps is {recipe.max_steps}; it must be above 0")
    if recipe.precision not in ("fp32", "bf16"):
        raise UserError(f"precision is {recipe.precision!r}; use fp32 or bf16")
    optimizers.check(recipe, runtime.device, runtime.sharding)
    adversary.check(recipe, runtime)


def _track(monitoring: Monitoring, first: int, rows: list[LossRow], rate: float) -> None:
    if monitoring.tracker is not None:
        for step, row in enumerate(rows, start=first):
            losses = {f"train/{name}": value for name, value in row.items()}
            monitoring.tracker.log(losses | {"learning_rate": rate}, step)


class TrainingRun:
    """The state of one training run: everything that must survive a crash, and the training step."""

    def __init__(
        self,
        objective: nn.Module,
        recipe: Recipe,
        runtime: Runtime,
        folder: Path | None,
        monitoring: Monitoring = Monitoring(),  # noqa: B008  (frozen)
    ) -> None:
        self.objective, self.recipe, self.runtime, self.folder = objective.to(runtime.device), recipe, runtime, folder
        self.monitoring, self.selection = monitoring, monitoring.selection
        self.checkpoints = Checkpoints(folder, recipe.identity, recipe.keep_checkpoints, runtime)
        objective.train()
        state = self.checkpoints.newest(self._last_usable()) if recipe.checkpoint_every else None
        if state is not None:
            objective.load_state_dict(state["weights"], strict=False)
        self.strategy = build_strategy(objective, recipe, runtime)
        self.schedule = schedules.build(self.strategy.optimizer, recipe)
        self.ema = None if recipe.ema_decay is None else EMA(self.strategy.weights, recipe.ema_decay, recipe.ema_warmup)
        assert (recipe.adversary is None) == (not adversary.adversary_weights(objective))
        self.adversary = recipe.adversary and AdversaryOptimizer(objective, recipe.adversary, runtime.device)
        self.losses = Losses([] if state is None else state["rows"], runtime)
        if state is not None:
            self._restore(state)

    @property
    def done(self) -> int:
        """Completed optimiser steps."""
        return len(self.losses.rows)

    @property
    def is_stopped(self) -> bool:
        """Whether the selection has seen no progress for long enough."""
        return self.selection is not None and self.selection.is_stopped

    @property
    def remaining(self) -> range:
        """The steps that are left, counted from 0."""
        return range(self.done, self.done if self.is_stopped else self.recipe.max_steps)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.strategy.optimizer.param_groups[0]["lr"])

    def advance(self, batch: Batch, step: int) -> None:
        """Make one optimiser step; progress is k / N and stays at 1 beyond N."""
        length = self.recipe.schedule_steps or self.recipe.max_steps
        self.losses.add(self._accumulate(batch, min(step / length, 1.0)))
        self.strategy.step()
        if self.adversary is not None:
            self.adversary.step()
        if step + 1 < length and self.recipe.plateau is None:
            self.schedule.step()
        if self.ema is not None:
            self.ema.update()

    def is_fetched(self, done: int) -> bool:
        """Whether losses are fetched after so many steps: now and then, and before anything is saved or shown."""
        recipe = self.recipe
        callbacks = (callback.every_n_steps for callback in self.monitoring.callbacks)
        plateau = recipe.plateau and recipe.plateau.every
        saves = (recipe.checkpoint_every or recipe.max_steps, plateau or recipe.max_steps, *callbacks, FETCH)
        scored = self.selection is not None and self.selection.is_due(done, recipe.max_steps)
        last = scored or done == recipe.max_steps or done in recipe.snapshots
        return last or any(done % every == 0 for every in saves)

    def score(self, done: int) -> None:
        """Score the weights where that is due, keep the best, and lower the learning rate where progress has ended."""
        scored = self.selection is not None and self.selection.is_due(done, self.recipe.max_steps)
        if self.selection is not None and scored:
            with self.evaluation():
                score = self.runtime.broadcast(self.selection.score())
                self.selection.add(done, score, trained_state(self.objective))
        plateau = self.recipe.plateau
        if plateau is None:
            return
        if plateau.every is None and self.selection is not None and scored:
            self.schedule.step(self.selection.scores[-1][1])
        elif plateau.every is not None and done % plateau.every == 0:
            totals = [sum(row.values()) for row in self.losses.rows[-plateau.every :]]
            self.schedule.step(sum(totals) / len(totals))

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Within, the objective is in evaluation mode, with full weights, averaged where there is an average."""
        self.objective.eval()
        with self._averaged(), self.strategy.full_params(), torch.no_grad():
            yield
        self.objective.train()

    def save(self, done: int) -> None:
        """Save what is due after so many steps: the snapshot first, so that no checkpoint comes before it."""
        if self.folder is None:
            return
        if done in self.recipe.snapshots:
            with self.evaluation():
                self._write_snapshot(self.folder, done)
        every = self.recipe.checkpoint_every
        if every and (done % every == 0 or done == self.recipe.max_steps):
            if self.monitoring.clock is not None:
                self.monitoring.clock.note(done)
            self.checkpoints.save(done, self._state())

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the trained (or averaged) weights in the objective, in full."""
        if self.ema is not None:
            for weight, mean in zip(self.strategy.weights, self.ema.weights, strict=True):
                weight.copy_(mean)
        self.strategy.unshard()
        self.objective.eval()
        if self.selection is not None and self.selection.weights is not None:
            self.objective.load_state_dict(self.selection.weights, strict=False)
        if not all(value.isfinite().all() for value in trained_state(self.objective).values()):
            raise UserError(
                f"step {self.done - 1}: its update left weights that are not finite, although its loss was;"
                " lower the learning rate or use precision fp32"
            )

    def _last_usable(self) -> int:
        """Return the last step whose checkpoint may be resumed: before the first snapshot that is lost or damaged."""
        if self.folder is None or not self.runtime.is_main:
            return self.recipe.max_steps  # the main process chooses for all
        lost = [step for step in self.recipe.snapshots if not is_intact(snapshot_path(self.folder, step))]
        return min([step - 1 for step in lost], default=self.recipe.max_steps)

    def _averaged(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.ema is None else self.ema.applied()

    def _accumulate(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Accumulate the gradients of all micro-batches; return their losses' mean weighted by size."""
        total: dict[str, Tensor] = {}
        size = self.recipe.micro_batch or max(len(batch), 1)  # of DP-SGD a batch may be empty
        micro_batches = list(split(batch, size))
        for part in micro_batches:
            share = len(part) / len(batch)
            with self.strategy.no_sync(part is not micro_batches[-1]):
                with self.runtime.autocast(self.recipe.precision):
                    losses: dict[str, Tensor] = self.strategy.wrapped(part, progress)
                loss = sum(losses.values(), torch.zeros((), device=self.runtime.device))
                self.strategy.backward(loss * self.strategy.share(len(part), len(batch)))
            for name, loss in losses.items():
                total[name] = total.get(name, 0.0) + loss.detach().double() * share
        return total

    def _write_snapshot(self, folder: Path, done: int) -> None:
        if self.runtime.is_main:
            with files.replacing(snapshot_path(folder, done)) as temporary, temporary.open("wb") as file:
                torch.save(trained_state(self.objective), file)

    def _state(self) -> dict[str, Any]:
        """Return everything in full tensors; all processes call it together."""
        state = {
            "rows": self.losses.rows,
            "optimizer": self.strategy.optimizer_state(),
            "schedule": self.schedule.state_dict(),
            "callbacks": [callback.rows for callback in self.monitoring.callbacks],
        }
        if self.selection is not None:
            state["selection"] = self.selection.state_dict()
        if self.adversary is not None:
            state["adversary"] = self.adversary.state_dict()
        if self.ema is not None:
            state["average"] = self.strategy.gather(self.ema.state_dict())
        with self.strategy.full_params():
            full = trained_state(self.objective) if self.runtime.is_main else {}
            return state | {"weights": {name: value.to("cpu", copy=True) for name, value in full.items()}}

    def _restore(self, state: dict[str, Any]) -> None:
        self.strategy.load_optimizer_state(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        for callback, rows in zip(self.monitoring.callbacks, state.get("callbacks", ()), strict=False):
            if callback.rows is not None:
                callback.rows[:] = rows
        if self.selection is not None:
            self.selection.load_state_dict(state["selection"])
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])
        if self.ema is not None:
            average = state["average"]
            self.ema.load_state_dict(average | {"weights": self.strategy.shard(average["weights"])})


def split(batch: Batch, size: int) -> Iterator[Batch]:
    """Split a batch into micro-batches of so many samples; the last may have fewer."""
    return (batch.part(start, start + size) for start in range(0, len(batch), size))


def snapshot_path(folder: Path, step: int) -> Path:
    """Return where `fit` keeps the trained weights after so many steps (recipe.snapshots)."""
    return folder / "snapshots" / f"{step:06d}.pt"


def trained_state(objective: nn.Module) -> dict[str, Tensor]:
    """Return the trained parameters and all buffers (batch-norm statistics) of an objective by name."""
    kept = {name: p.detach() for name, p in objective.named_parameters() if p.requires_grad}
    return kept | dict(objective.named_buffers())
