"""Training sets that differ in nothing but the seed of their generator: one treatment, several trained generators."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.stages.finetune.params import GeneratorEntry, rival_generators
from pipeline.stages.mix.params import TrainingSet


@dataclass(frozen=True)
class Treatment:
    """What a study asks about: a generator's method and settings, a multiplier, and every option of a training set."""

    training_sets: tuple[str, ...]  # one for each trained generator, in the order of params.yaml

    @property
    def n_generators(self) -> int:
        """The number of trainings of the generator."""
        return len(self.training_sets)


def treatments(
    sets: Mapping[str, TrainingSet], generators: Mapping[str, GeneratorEntry], reference: str
) -> list[Treatment]:
    """Group the training sets with synthetic images, other than the reference and rivals, by treatment.

    Two sets belong to one treatment where their generators differ in `seed` alone and the sets in `generator` alone.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    without_learning = rival_generators(generators)
    for name, one in sets.items():
        if one.generator is not None and one.generator not in without_learning and name != reference:
            key = recipe(generators[one.generator], one.generator), one.model_dump_json(exclude={"generator"})
            groups.setdefault(key, []).append(name)
    return [Treatment(tuple(names)) for names in groups.values()]


def recipe(entry: GeneratorEntry, name: str) -> str:
    """Return what two entries of `generators` that differ in their seed alone have in common."""
    return str(entry.model_copy(update={"seed": 0, "method": entry.method_of(name)}).model_dump())
