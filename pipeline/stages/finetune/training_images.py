"""The pairs that a generator is fine-tuned on, from which its masks come too. No torch."""

from pipeline.data import pseudo_labels
from pipeline.data.image_set import ImageSet
from pipeline.data.limited import training_pairs
from pipeline.stages.finetune.params import GeneratorEntry


def fine_tuning_pairs(study: str, seed: int, name: str, entry: GeneratorEntry, real: ImageSet) -> ImageSet:
    """Return the real training pairs within the limit of an entry and, if it asks for them, images with pseudo-labels.

    `real` is the published set of the study. Raises UserError where there are too few pairs, or no images with
    pseudo-labels.
    """
    where = f"generators.{name}"
    if entry.pseudo_labels:
        return pseudo_labels.with_training_pairs(study, f"{where}.pseudo_labels")
    return training_pairs(real, entry.pair_limit, seed, where)
