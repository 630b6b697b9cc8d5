"""One training loop for every objective. It knows nothing of masks, text or diffusion."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core import files, seeding
from pipeline.core.contracts import Batch, Recipe
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches
from pipeline.training import optimizers
from pipeline.training.callbacks import Display, Losses, Row, Watch
from pipeline.training.checkpoints import Checkpoints, is_whole
from pipeline.training.ema import Average
from pipeline.training.sharding import Layout, lay_out

FETCH = 10  # optimiser steps between two looks at the losses; each makes the device and all processes wait


def fit(
    objective: nn.Module,
    batches: Batches,
    recipe: Recipe,
    runtime: Runtime,
    folder: Path | None = None,
    title: str = "",
    watch: Watch = Watch(),  # noqa: B008  (frozen)
) -> list[Row]:
    """Trains to `recipe.max_steps` and returns the losses of every step, means over all processes.

    With a folder and `recipe.checkpoint_every` the same call resumes where a killed one stopped, and a resumed run
    equals an uninterrupted one bit for bit on the same machine; with `recipe.schedule_steps` a finished run goes on to
    a larger `max_steps`. Raises UserError where a loss is not finite; nothing is saved after that step.
    """
    check(recipe, batches.batch_size, runtime)
    run = Run(objective, recipe, runtime, folder)
    with Display(title, run.done, recipe.max_steps, runtime) as display:
        for step in range(run.done, recipe.max_steps):
            seeding.seed_everything(batches.seed, "dropout", step, runtime.rank)
            run.advance(batches.batch(step, runtime.rank, runtime.world).to(runtime.device), step)
            done = step + 1
            if _pause(done, recipe, watch):
                new = run.losses.fetch()
                display.show(done, new[-1], run.rate)
                _track(watch, done - len(new), new, run.rate)
            for look in watch.looks:
                if done % look.every == 0:
                    with run.looking():
                        look.at(done)
            run.keep(done)
    run.finish()
    return run.losses.rows


def check(recipe: Recipe, global_batch: int, runtime: Runtime) -> None:
    """Raises UserError where a recipe cannot be followed here, without touching data or weights."""
    if global_batch % runtime.world:
        raise UserError(
            f"a global batch of {global_batch} cannot be dealt evenly to {runtime.world} processes;"
            " make it a multiple or launch another number"
        )
    if recipe.max_steps <= 0:
        raise UserError(f"max_steps is {recipe.max_steps}; it must be above 0")
    if recipe.precision not in ("fp32", "bf16"):
        raise UserError(f"precision is {recipe.precision!r}; there are fp32 and bf16")
    optimizers.check(recipe, runtime.device, runtime.sharding)


def _pause(done: int, recipe: Recipe, watch: Watch) -> bool:
    """Whether losses are fetched after so many steps: now and then, and before anything is saved or shown."""
    saves = (recipe.checkpoint_every or recipe.max_steps, *(look.every for look in watch.looks), FETCH)
    return done == recipe.max_steps or done in recipe.snapshots or any(done % every == 0 for every in saves)


def _track(watch: Watch, first: int, rows: list[Row], rate: float) -> None:
    if watch.tracker is not None:
        for step, row in enumerate(rows, start=first):
            watch.tracker.log({f"train/{name}": value for name, value in row.items()} | {"learning_rate": rate}, step)


class Run:
    """The state of one training run: everything that must survive a crash, and how it moves on by a step."""

    def __init__(self, objective: nn.Module, recipe: Recipe, runtime: Runtime, folder: Path | None) -> None:
        self.objective, self.recipe, self.runtime, self.folder = objective.to(runtime.device), recipe, runtime, folder
        self.checkpoints = Checkpoints(folder, recipe.identity, recipe.keep_checkpoints, runtime)
        objective.train()
        state = self.checkpoints.newest(self._last_usable()) if recipe.checkpoint_every else None
        if state is not None:
            objective.load_state_dict(state["weights"], strict=False)
        self.layout: Layout = lay_out(objective, recipe, runtime)
        self.schedule = _schedule(self.layout.optimizer, recipe)
        self.average = None if recipe.ema_decay is None else Average(self.layout.weights, recipe.ema_decay)
        self.losses = Losses([] if state is None else state["rows"], runtime)
        if state is not None:
            self._restore(state)

    @property
    def done(self) -> int:
        """Completed optimiser steps."""
        return len(self.losses.rows)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.layout.optimizer.param_groups[0]["lr"])

    def advance(self, batch: Batch, step: int) -> None:
        """One optimiser step; progress is k / N and stays at 1 beyond N."""
        length = self.recipe.schedule_steps or self.recipe.max_steps
        self.losses.add(self._accumulate(batch, min(step / length, 1.0)))
        self.layout.update()
        if step + 1 < length:
            self.schedule.step()
        if self.average is not None:
            self.average.update()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Within, the objective is in evaluation, whole, and averaged where there is an average."""
        self.objective.eval()
        with self._averaged(), self.layout.whole(), torch.no_grad():
            yield
        self.objective.train()

    def keep(self, done: int) -> None:
        """Saves what is due after so many steps: snapshot first, so that a checkpoint finds it there."""
        if self.folder is None:
            return
        if done in self.recipe.snapshots:
            with self.looking():
                self._write_snapshot(self.folder, done)
        every = self.recipe.checkpoint_every
        if every and (done % every == 0 or done == self.recipe.max_steps):
            self.checkpoints.save(done, self._state())

    @torch.no_grad()
    def finish(self) -> None:
        """Leaves the trained (or averaged) weights, whole, in the objective."""
        if self.average is not None:
            for weight, mean in zip(self.layout.weights, self.average.weights, strict=True):
                weight.copy_(mean)
        self.layout.settle()
        self.objective.eval()
        if not all(value.isfinite().all() for value in trained(self.objective).values()):
            raise UserError(
                f"step {self.recipe.max_steps - 1}: its update left weights that are not finite, though its loss was;"
                " lower the learning rate or use precision fp32"
            )

    def _last_usable(self) -> int:
        """The last step whose checkpoint may be resumed: before the first snapshot that is lost or damaged."""
        if self.folder is None or not self.runtime.is_main:
            return self.recipe.max_steps  # the main process chooses for all
        lost = [step for step in self.recipe.snapshots if not is_whole(snapshot(self.folder, step))]
        return min([step - 1 for step in lost], default=self.recipe.max_steps)

    def _averaged(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.average is None else self.average.applied()

    def _accumulate(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Adds the gradients of all micro-batches; the losses are a mean over them weighted by their size."""
        total: dict[str, Tensor] = {}
        own = list(parts(batch, self.recipe.micro_batch or len(batch)))
        for part in own:
            share = len(part) / len(batch)
            with self.layout.exchanging(last=part is own[-1]):
                with self.runtime.autocast(self.recipe.precision):
                    losses: dict[str, Tensor] = self.layout.wrapped(part, progress)
                self.layout.backward(sum(losses.values(), torch.zeros((), device=self.runtime.device)) * share)
            for name, loss in losses.items():
                total[name] = total.get(name, 0.0) + loss.detach().double() * share
        return total

    def _write_snapshot(self, folder: Path, done: int) -> None:
        if self.runtime.is_main:
            with files.replacing(snapshot(folder, done)) as temporary:
                torch.save(trained(self.objective), temporary)

    def _state(self) -> dict[str, Any]:
        """Everything in whole tensors; all processes call it together."""
        state = {"rows": self.losses.rows, "optimizer": self.layout.state(), "schedule": self.schedule.state_dict()}
        if self.average is not None:
            state["average"] = self.layout.collected(self.average.state_dict())
        with self.layout.whole():
            whole = trained(self.objective) if self.runtime.is_main else {}
            return state | {"weights": {name: value.to("cpu", copy=True) for name, value in whole.items()}}

    def _restore(self, state: dict[str, Any]) -> None:
        self.layout.restore(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            average = state["average"]
            self.average.load_state_dict(average | {"weights": self.layout.dealt(average["weights"])})


def parts(batch: Batch, size: int) -> Iterator[Batch]:
    """Micro-batches of so many samples; the last may have fewer."""
    return (batch.part(start, start + size) for start in range(0, len(batch), size))


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.lr_scheduler.LRScheduler:
    length = recipe.schedule_steps or recipe.max_steps
    if recipe.schedule == "one_cycle":
        total, rates = max(length, 4), [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=total, pct_start=0.1, cycle_momentum=False
        )
    if recipe.schedule == "halved":
        steps = [round(share * length) for share in recipe.milestones]
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, steps, gamma=0.5)
    end = 1e-2 if recipe.schedule == "linear" else 1.0
    return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, end, total_iters=length)


def snapshot(folder: Path, step: int) -> Path:
    """Where `fit` keeps the trained weights after so many steps (recipe.snapshots)."""
    return folder / "snapshots" / f"{step:06d}.pt"


def trained(objective: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and all buffers (batch-norm statistics) of an objective by name."""
    kept = {name: p.detach() for name, p in objective.named_parameters() if p.requires_grad}
    return kept | dict(objective.named_buffers())
