"""Checks of all entries of `generators` together with the section `finetune`."""

from collections.abc import Mapping, Sequence

from pipeline.stages.finetune.params import Finetune, GeneratorEntry


def check_generators(entries: Mapping[str, GeneratorEntry], finetune: Finetune, *, predicted: bool) -> None:
    """Raise ValueError where an entry cannot be trained or guided as it asks for.

    `predicted` says whether masks are predicted for the images without masks.
    """
    for name, entry in entries.items():
        if entry.learning_rate is not None and not entry.learns(name):
            raise ValueError(f"generators.{name}.learning_rate: {entry.method_of(name)} is not fine-tuned; remove it")
        _check_guidance(name, entry, finetune.snapshots)
        _check_pseudo_labels(name, entry, finetune, predicted=predicted)


def _check_guidance(name: str, entry: GeneratorEntry, snapshots: Sequence[int]) -> None:
    """Raise ValueError where an entry's guidance has no generator or no snapshot to act with."""
    where, guidance = f"generators.{name}.guidance", entry.guidance
    if guidance is None:
        return
    if not entry.learns(name):
        raise ValueError(f"{where}: {entry.method_of(name)} has no denoising steps to guide; remove it")
    if guidance.snapshot is None and not entry.uses_base(name):
        raise ValueError(
            f"{where}: {entry.method_of(name)} sees no prompt, so it has no prediction without one; name a snapshot"
            " that guides it, or remove it"
        )
    if guidance.snapshot is not None and guidance.snapshot not in snapshots:
        raise ValueError(
            f"{where}.snapshot {guidance.snapshot} is not kept; finetune.snapshots are {list(snapshots)}. Add it there"
        )


def _check_pseudo_labels(name: str, entry: GeneratorEntry, common: Finetune, *, predicted: bool) -> None:
    """Raise ValueError where an entry cannot learn from pseudo-labels; `predicted` says whether the study has some."""
    where = f"generators.{name}.pseudo_labels"
    if not entry.pseudo_labels:
        return
    if not predicted:
        raise ValueError(f"{where} needs masks that were predicted; set data.unlabelled.pseudo_labels")
    if not entry.learns(name):
        raise ValueError(f"{where}: {entry.method_of(name)} is not fine-tuned; remove it")
    if entry.settings(common).privacy is not None:
        raise ValueError(
            f"{where}: the guarantee of privacy would not cover the segmenters that predict the masks; remove"
            " pseudo_labels or privacy"
        )
