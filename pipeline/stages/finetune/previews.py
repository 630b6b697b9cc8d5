"""Looks at a generator while it is trained: loss on the split val with fixed noise, images of a few fixed masks."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from pipeline.stages.finetune import presets
from pipeline.stages.finetune.params import Finetune
from pipeline.study import Params
from pipeline.training.callbacks import Look
from pipeline.training.loop import parts

COLUMNS = 8  # fixed masks of a sample grid
# The paper's sampler, and not that of the section `generate`: another one there must not make a run train again.
STEPS, SCALE = 50, 9.0


def looks(
    params: Params, model: Generator, val: ImageSet, runtime: Runtime, work: Path, tracker: Tracker | None
) -> tuple[Look, ...]:
    """What finetune.validate_every and finetune.sample_every ask for; results lie below `work`."""
    chosen = presets.fitted(params.finetune)
    found: list[Look] = []
    if chosen.validate_every is not None:
        validation = Validation(chosen, params.seed, model, Pairs.read(val), runtime, work, tracker)
        found.append(Look(chosen.validate_every, validation.at))
    if chosen.sample_every is not None:
        found.append(Look(chosen.sample_every, Grid(params, model, val, runtime, work).at))
    return tuple(found)


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
        still = settings.model_copy(update={"flip": False, "prompt_dropout": 0.0})
        self.batches = model.batches(pairs, still, f"{seed}/validation")
        self.count = max(1, len(pairs) // still.global_batch)

    def at(self, done: int) -> None:
        """Writes the mean losses after so many steps; all processes take their shares."""
        with self.runtime.autocast(self.settings.precision):
            rows = [(share, self.objective(part, 1.0)) for part, share in self._parts()]
        names = sorted(rows[0][1])
        sums = torch.stack([share * torch.stack([row[name].double() for name in names]) for share, row in rows]).sum(0)
        means = dict(zip(names, self.runtime.mean(sums).tolist(), strict=True))
        if self.runtime.is_main:
            told = {name: value if math.isfinite(value) else None for name, value in means.items()}
            files.write_sealed(self.folder / f"{done:06d}.json", {"step": done, **told})
        if self.tracker is not None:
            self.tracker.log({f"validation/{name}": value for name, value in means.items()}, done)

    def _parts(self) -> Iterator[tuple[Any, float]]:
        """Micro-batches of this process, and how much of its samples each is."""
        for step in range(self.count):
            batch = self.batches.batch(step, self.runtime.rank, self.runtime.world).to(self.runtime.device)
            for part in parts(batch, self.settings.micro_batch or len(batch)):
                yield part, len(part) / len(batch) / self.count


class Grid:
    """Images of the first masks of val: the hints, the real images, and what the generator makes of them today."""

    def __init__(self, params: Params, model: Generator, val: ImageSet, runtime: Runtime, work: Path) -> None:
        self.params, self.model, self.runtime, self.folder = params, model, runtime, work / "samples"
        self.classes = val.spec.num_classes
        self.pairs = Pairs.read(val.select(val.rows[:COLUMNS]))

    def at(self, done: int) -> None:
        """Writes the grid on the main process, from the same noise every time."""
        if not self.runtime.is_main:
            return
        pairs, precision = self.pairs, self.params.finetune.precision
        rngs = [seeding.torch_rng(self.params.seed, "preview", name) for name in pairs.ids]
        sampling = Sampling(STEPS, SCALE, precision)
        with self.runtime.autocast(precision):
            drawn = self.model.sample(pairs.mask.long(), pairs.prompts, rngs, sampling, list(pairs.image.numpy()))
        rows = [mask_hint.hint(pairs.mask, self.classes), pairs.image.float() / 255, drawn.float().cpu()]
        with files.replacing(self.folder / f"{done:06d}.png") as temporary:
            picture(rows).save(temporary, format="PNG")


def picture(rows: list[Tensor]) -> Image.Image:
    """Rows of images [N, 3, H, W] in [0, 1], one below the other."""
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    return Image.fromarray((grid * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def publish(work: Path, folder: Path, until: int) -> None:
    """Copies what the looks left in so many steps to the finished generator: validation.csv and samples/."""
    rows = [_row(path, work) for path in _until(work / "validation", "json", until)]
    if rows:
        tables.write_table(folder / "validation.csv", rows)
    for path in _until(work / "samples", "png", until):
        files.write_bytes(folder / "samples" / path.name, path.read_bytes())


def _row(path: Path, work: Path) -> dict[str, Any]:
    """What `Validation.at` wrote. Raises UserError where it is damaged."""
    row = files.read_sealed(path)
    if row is None:
        raise UserError(f"{path} is damaged; remove {work} and run the stage finetune again")
    return row


def _until(folder: Path, kind: str, last: int) -> list[Path]:
    return [path for path in sorted(folder.glob(f"[0-9]*.{kind}")) if int(path.stem) <= last]
