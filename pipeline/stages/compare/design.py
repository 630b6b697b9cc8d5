"""The design of a comparison of training sets: the role of each, and the multipliers of each generator in order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.stages.compare.params import Compare
from pipeline.stages.mix.params import TrainingSet


@dataclass(frozen=True)
class Design:
    """The training sets that a study compares, for each of its segmenters."""

    compare: Compare
    training_sets: Mapping[str, TrainingSet]
    segmenters: int  # how many
    seed: int  # of the study

    @property
    def reference(self) -> str:
        """The training set to which all others are compared."""
        return self.compare.reference

    @property
    def family_size(self) -> int:
        """The number of differences that the correction for several arms covers."""
        return self.segmenters * sum(self.is_arm(name) for name in self.training_sets)

    def role(self, name: str) -> str:
        """Return the role of a training set: reference, arm (synthetic images), control (A/A), repeated or ceiling."""
        training_set = self.training_sets[name]
        if name == self.reference:
            return "reference"
        if training_set.generator is not None:
            return "arm"
        if training_set.real == "all":
            return "ceiling"  # more real images: a difference is what one hopes to reach, not a fault
        return "control" if training_set.repeat == 1 else "repeated"

    def is_arm(self, name: str) -> bool:
        """Return whether the training set holds synthetic images and is not the reference."""
        return self.role(name) == "arm"

    def ladders(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each generator with its training sets in the order of their multipliers, the reference first.

        Screened sets and those with other seeds are left out.
        """
        candidates = {
            name: training_set
            for name, training_set in self.training_sets.items()
            if training_set.generator and not training_set.screened and not training_set.seed_offset
        }
        for generator in dict.fromkeys(one.generator for one in candidates.values() if one.generator):
            names = [name for name, one in candidates.items() if one.generator == generator and name != self.reference]
            if names:
                yield generator, [self.reference, *sorted(names, key=lambda name: candidates[name].multiplier)]
