"""The image set of the entry "drawn" of a toy study whose generator is published."""

from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.stages.finetune import generator
from pipeline.stages.generate import generate as generation
from pipeline.study import Params


def job(params: Params) -> generation.Job:
    """The entry "drawn" of the toy study."""
    real, trained = ImageSet.open(paths.real("toy")), paths.generator("toy", "drawn")
    return generation.Job(params, "drawn", trained, params.generators["drawn"].copies, real)


def make(params: Params, work: str = "work") -> ImageSet:
    """The set of this entry, drawn in the folder `work`."""
    generation.fill(job(params), Runtime.alone(1), Path(work))
    return ImageSet.open(Path(work) / "set")


def publish(params: Params) -> Params:
    """Publish the untrained generator of this entry, and return the study."""
    spec = ImageSet.open(paths.real("toy")).spec
    built = generator.build("toy", 0, "drawn", params.generators["drawn"], spec, Runtime.alone(1))
    built.save(paths.generator("toy", "drawn"))
    return params


def train() -> tuple[ImageSet, dict[str, Any]]:
    """The training images, as a set and by id."""
    images = ImageSet.open(paths.real("toy")).split("train")
    return images, {row["id"]: row for row in images}
