"""Image sets in tar shards: the files of a set packed as they are, and sets that a stub of a generator draws."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core import paths
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data import shards
from pipeline.data.image_set import ImageSet, Row
from pipeline.stages.generate import generate as generation
from pipeline.study import Params
from tests.conftest import TOY_STUDY


def packed(images: ImageSet, folder: Path, per_shard: int = 5) -> ImageSet:
    """The same rows and the same bytes in shards."""
    return ImageSet.finish(folder, images.spec, list(_packed_rows(images, folder, per_shard)))


def _packed_rows(images: ImageSet, folder: Path, per_shard: int) -> Iterator[Row]:
    count = -(-len(images) // per_shard)
    for number in range(count):
        with shards.writing(folder, shards.name_of(number, count)) as shard:
            for key, row in list(enumerate(images))[number * per_shard : (number + 1) * per_shard]:
                image, mask = (images.content(row, column) for column in shards.SPANS)
                yield {**row, **shard.add(key, image, row, mask)}


class Drawer:
    """In place of a generator: uniform noise from each image's own stream; `before` is called first, with a count."""

    def __init__(self, before: Any = None) -> None:
        self.objective, self.calls, self.before = nn.Identity(), 0, before

    def load(self, folder: Path) -> None:
        """There is nothing to load."""

    def sample(self, masks: Tensor, prompts: Sequence[str], rngs: Sequence[torch.Generator], *_: Any) -> Tensor:
        self.calls += 1
        if self.before is not None:
            self.before(self.calls)
        return torch.stack([torch.rand((3, *masks.shape[1:]), generator=rng) for rng in rngs])


def study(shard: int | None, copies: int = 3, batch_size: int = 2, **keys: Any) -> Params:
    """The toy study, whose eight training masks get so many images each; `keys` are further ones of its generator."""
    settings = {**TOY_STUDY["generate"], "batch_size": batch_size, "shards": shard}
    changes = {
        "generators": {"siamese": {"copies": copies, **keys}},
        "training_sets": {"real": {}},
        "generate": settings,
    }
    return parse(Params, {**TOY_STUDY, **changes})


def fill(params: Params, work: Path, world: int = 1) -> ImageSet:
    """The set as `world` processes make it in turn; the first one comes last, for it writes the manifest."""
    real, trained = ImageSet.open(paths.real("toy")), paths.generator("toy", "siamese")
    job = generation.Job(params, "siamese", trained, params.generators["siamese"].copies, real)
    together = SimpleNamespace(wait_for_everyone=lambda: None)
    for rank in reversed(range(world)):
        generation.fill(job, Runtime(torch.device("cpu"), rank, world, together), work)
    return ImageSet.open(work / "set")
