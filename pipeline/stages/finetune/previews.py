"""Previews of a generator in training: loss on the split val with fixed noise, images of a few fixed masks."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from pipeline.core import files, seeding, tables
from pipeline.core.contracts import Generator, Sampling
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime, Tracker
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Pairs
from pipeline.methods.conditioning import mask as mask_hint
from pipeline.stages.finetune.params import Finetune
from pipeline.training.callbacks import Callback
from pipeline.training.loop import split

Precision = Literal["fp32", "bf16"]
COLUMNS = 8  # fixed masks of a sample grid
# The paper's sampler, and not that of the section `generate`: another one there must not make a run train again.
STEPS, SCALE = 50, 9.0


def callbacks(
    settings: Finetune,
    seed: int,
    model: Generator,
    val: ImageSet,
    runtime: Runtime,
    work: Path,
    tracker: Tracker | None,
) -> tuple[Callback, ...]:
    """Return what finetune.validate_every and finetune.sample_every ask for; results lie below `work`."""
    previews: list[Callback] = []
    if settings.validate_every is not None:
        validation = Validation(settings, seed, model, Pairs.read(val), runtime, work, tracker)
        previews.append(Callback(settings.validate_every, validation.run))
    if settings.sample_every is not None:
        grid = SampleGrid(settings.precision, seed, model, val, runtime, work)
        previews.append(Callback(settings.sample_every, grid.draw))
    return tuple(previews)


class Validation:
    """The objective's losses on the split val, always with the same noise, timesteps and prompts.

    Progress is that of the end of training (w_i = 1, every loss present), so that the values of a run compare. Samples
    pass in the training's micro-batches: what fits the device there fits here.
    """

    def __init__(
        self,
        settings: Finetune,
        seed: int,
        model: Generator,
        pairs: Pairs,
        runtime: Runtime,
        work: Path,
        tracker: Tracker | None,
    ) -> None:
        self.objective, self.runtime, self.tracker = model.objective, runtime, tracker
        self.folder, self.settings = work / "validation", settings
        still = settings.model_copy(update={"flip": False, "prompt_dropout": 0.0, "privacy": None})
        self.batches = model.batches(pairs, still, f"{seed}/validation")
        self.count = max(1, len(pairs) // still.global_batch)

    def run(self, done: int) -> None:
        """Write the mean losses after so many steps; each process computes its share."""
        with self.runtime.autocast(self.settings.precision):
            rows = [(share, self.objective(part, 1.0)) for part, share in self._micro_batches()]
        names = sorted(rows[0][1])
        sums = torch.stack([share * torch.stack([row[name].double() for name in names]) for share, row in rows]).sum(0)
        means = dict(zip(names, self.runtime.mean(sums).tolist(), strict=True))
        if self.runtime.is_main:
            losses = {name: value if math.isfinite(value) else None for name, value in means.items()}
            files.write_sealed(self.folder / f"{done:06d}.json", {"step": done, **losses})
        if self.tracker is not None:
            self.tracker.log({f"validation/{name}": value for name, value in means.items()}, done)

    def _micro_batches(self) -> Iterator[tuple[Any, float]]:
        """Yield the micro-batches of this process, each with its share of the samples."""
        for step in range(self.count):
            batch = self.batches.batch(step, self.runtime.rank, self.runtime.world).to(self.runtime.device)
            for part in split(batch, self.settings.micro_batch or len(batch)):
                yield part, len(part) / len(batch) / self.count


class SampleGrid:
    """Images of the first masks of val: the hints, the real images, and what the generator makes of them now."""

    def __init__(
        self, precision: Precision, seed: int, model: Generator, val: ImageSet, runtime: Runtime, work: Path
    ) -> None:
        self.precision: Precision = precision
        self.seed, self.model, self.runtime, self.folder = seed, model, runtime, work / "samples"
        self.classes = val.spec.num_classes
        self.pairs = Pairs.read(val.select(val.rows[:COLUMNS]))

    def draw(self, done: int) -> None:
        """Write the grid on the main process, from the same noise every time."""
        if not self.runtime.is_main:
            return
        pairs = self.pairs
        rngs = [seeding.torch_rng(self.seed, "preview", name) for name in pairs.ids]
        sampling = Sampling(STEPS, SCALE, self.precision)
        with self.runtime.autocast(self.precision):
            images = self.model.sample(pairs.mask.long(), pairs.prompts, rngs, sampling, list(pairs.image.numpy()))
        rows = [mask_hint.hint(pairs.mask, self.classes), pairs.image.float() / 255, images.float().cpu()]
        with files.replacing(self.folder / f"{done:06d}.png") as temporary:
            picture(rows).save(temporary, format="PNG")


def picture(rows: list[Tensor]) -> Image.Image:
    """Return rows of images [N, 3, H, W] in [0, 1], one below the other, as one picture."""
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    return Image.fromarray((grid * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def publish(work: Path, folder: Path, until: int) -> None:
    """Copy the previews of so many steps to the finished generator: validation.csv and samples/."""
    rows = [_row(path, work) for path in _until(work / "validation", "json", until)]
    if rows:
        tables.write_table(folder / "validation.csv", rows)
    for path in _until(work / "samples", "png", until):
        files.write_bytes(folder / "samples" / path.name, path.read_bytes())


def _row(path: Path, work: Path) -> dict[str, Any]:
    """Read what `Validation.run` wrote. Raises UserError where it is damaged."""
    row = files.read_sealed(path)
    if row is None:
        raise UserError(f"{path} is damaged; remove {work} and run the stage finetune again")
    return row


def _until(folder: Path, kind: str, last: int) -> list[Path]:
    return [path for path in sorted(folder.glob(f"[0-9]*.{kind}")) if int(path.stem) <= last]
