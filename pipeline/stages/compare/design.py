"""The design of a comparison of training sets: the role of each, and the multipliers of each generator in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.errors import UserError
from pipeline.stages.compare.params import Compare, check_ladders, reference_of, rivals
from pipeline.stages.mix.params import TrainingSet


@dataclass(frozen=True)
class Ladder:
    """Training sets that differ in their multiplier alone."""

    generator: str
    options: str  # what they share beside the generator: TrainingSet.options
    names: tuple[str, ...]  # in the order of the multipliers


@dataclass(frozen=True)
class Design:
    """The training sets that a study compares, for each of its segmenters."""

    compare: Compare
    training_sets: Mapping[str, TrainingSet]
    segmenters: int  # how many
    seed: int  # of the study
    rival_generators: frozenset[str] = frozenset()  # generators that learn nothing, see finetune.params

    @property
    def reference(self) -> str:
        """The training set to which all others are compared, but those of another limit (`reference_of`)."""
        return self.compare.reference

    def reference_of(self, name: str) -> str:
        """Return the training set with which another one is compared: the reference, or the one with the same limit.

        The latter is compared to the study's reference itself.
        """
        own = reference_of(self.training_sets, self.reference, name)
        return self.reference if own == name else own

    def number_of(self, role: str) -> int:
        """Return the number of differences, over all segmenters, of the training sets with a role."""
        return self.segmenters * sum(self.role(name) == role for name in self.training_sets)

    def role(self, name: str) -> str:
        """Return the role of a training set.

        reference; arm: images of a trained generator; rival: another way of getting more from the real images (pasted
        lesions, strong augmentation, more steps, unlabelled images); control (A/A); repeated; ceiling; baseline (the
        real images alone of another limit than the reference's).
        """
        training_set = self.training_sets[name]
        if name == self.reference:
            return "reference"
        if name in rivals(self.training_sets, self.rival_generators, self.reference):
            return "rival"
        if training_set.generator is not None:
            return "arm"
        if training_set.real == "all":
            return "ceiling"  # more real images: a difference is what one hopes to reach, not a fault
        if training_set.pair_limit != self.training_sets[self.reference_of(name)].pair_limit:
            return "baseline"  # other real images: a difference says what they are worth
        return "control" if training_set.repeat == 1 else "repeated"

    def is_arm(self, name: str) -> bool:
        """Return whether the training set holds images of a trained generator and is not the reference."""
        return self.role(name) == "arm"

    def ladders(self) -> list[Ladder]:
        """Return the ladders in the order of their first set; screened sets and those with other seeds stand on none.

        Sets of one ladder are alike in all but the multiplier. Their reference is the first rung, unless its real
        images, steps, augmentation or unlabelled images are not those of the ladder. Raises UserError where the
        reference holds synthetic images itself, or a limit has none.
        """
        try:
            check_ladders(self.training_sets, self.reference)
        except ValueError as error:
            raise UserError(f"params.yaml: {error}") from None
        rungs: dict[tuple[str, str], list[str]] = {}
        for name, one in self.training_sets.items():
            if one.on_ladder and one.generator and name != self.reference:
                rungs.setdefault((one.generator, one.options), []).append(name)
        return [Ladder(*key, self._with_reference(names)) for key, names in rungs.items()]

    def _with_reference(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the sets of one ladder in the order of their multipliers, the reference first where it fits."""
        sets, reference = self.training_sets, self.reference_of(names[0])
        fits = all(_beside_synthesis(sets[name]) == _beside_synthesis(sets[reference]) for name in names)
        return (*([reference] if fits else []), *sorted(names, key=lambda name: sets[name].multiplier))


def _beside_synthesis(one: TrainingSet) -> tuple[object, ...]:
    return one.real_pairs, one.repeat, *one.effort
