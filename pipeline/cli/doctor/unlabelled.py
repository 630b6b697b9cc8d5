"""Check that something learns from the images without masks."""

from collections.abc import Iterable, Iterator

from pipeline.cli.doctor.findings import Finding, warning
from pipeline.stages.base.params import Base
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.prepare.params import Data


def findings(data: Data, base: Base | None, sets: Iterable[TrainingSet]) -> Iterator[Finding]:
    """Find images without masks that nothing learns from: neither a base made from scratch nor a mean teacher."""
    if data.unlabelled is None or (base is not None and base.source == "scratch"):
        return
    if any(one.unlabelled for one in sets):
        return
    why = "the study has no base" if base is None else f"base.source is {base.source}"
    found = f"{why}, and no training set has unlabelled: mean_teacher"
    cure = (
        "set base.source: scratch with the sections autoencoder and denoiser, add a training set with unlabelled:"
        " mean_teacher, or remove data.unlabelled"
    )
    yield warning("unlabelled", f"data.unlabelled names images without masks that nothing learns from: {found}", cure)
