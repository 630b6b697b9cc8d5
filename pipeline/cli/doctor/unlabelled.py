"""Check that something learns from the images without masks."""

from collections.abc import Collection, Iterator

from pipeline.cli.doctor.findings import Finding, warning
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.prepare.params import Data


def findings(
    data: Data, base: Base | None, sets: Collection[TrainingSet], generators: Collection[GeneratorEntry]
) -> Iterator[Finding]:
    """Find images without masks that nothing learns from, and pseudo-labels that nothing uses."""
    if data.unlabelled is None:
        return
    used = any(one.unlabelled == "pseudo_labels" for one in sets) or any(one.pseudo_labels for one in generators)
    if data.unlabelled.pseudo_labels and not used:
        found = "data.unlabelled.pseudo_labels predicts masks that nothing learns from"
        cure = (
            "set pseudo_labels: true for an entry of generators, add a training set with unlabelled: pseudo_labels, or"
            " remove data.unlabelled.pseudo_labels"
        )
        yield warning("unlabelled", found, cure)
    if used or (base is not None and base.source == "scratch") or any(one.unlabelled for one in sets):
        return
    why = "the study has no base" if base is None else f"base.source is {base.source}"
    found = f"{why}, and no training set has unlabelled: mean_teacher"
    cure = (
        "set base.source: scratch with the sections autoencoder and denoiser, add a training set with unlabelled:"
        " mean_teacher, or remove data.unlabelled"
    )
    yield warning("unlabelled", f"data.unlabelled names images without masks that nothing learns from: {found}", cure)
