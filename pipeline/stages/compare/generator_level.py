"""The generator as a random level: one treatment with several trainings of its generator, in one difference.

A difference of a single trained generator speaks of that generator alone. Where training sets differ in nothing but the
seed of their generator, their mean difference has an interval for new trainings of the generator as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from pipeline.metrics.statistics.paired import Noise, Table, seed_noise, unpaired_noise
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.paired_difference import Evidence, PairedDifference, weigh_evidence
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.results import Record, Results
from pipeline.stages.compare.verdict import Conclusion, conclude
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.mix.treatments import Treatment


@dataclass(frozen=True)
class GeneratorSpread:
    """How far generators that differ in their seed alone lie apart."""

    segmenter: str
    method: str
    multiplier: int
    generators: str
    seeds: str
    options: str  # of their training sets, see Ladder
    seed_sd: float  # SD of their differences: noise that no test of one generator can see
    least: float  # difference
    most: float


@dataclass(frozen=True)
class TreatmentEffect:
    """A treatment with several trained generators against the reference. One row of generator_seeds.csv."""

    treatment: Treatment
    spread: GeneratorSpread
    evidence: Evidence
    conclusion: Conclusion | None = None

    def record(self) -> Record:
        """Return one row of generator_seeds.csv and comparison.json, whose columns are COLUMNS."""
        record: Record = {}
        for part in (self.spread, self.evidence, self.conclusion):
            record |= asdict(part) if part else {}
        return record


COLUMNS = tuple(field.name for part in (GeneratorSpread, Evidence, Conclusion) for field in fields(part))


def treatment_effects(
    design: Design,
    treatments: Sequence[Treatment],
    generators: Mapping[str, GeneratorEntry],
    segmenter: str,
    results: Results,
) -> list[TreatmentEffect]:
    """Return the effect of every treatment with two or more trained generators; verdicts are still open."""
    return [
        TreatmentEffect(
            one, _spread(design, one, generators, segmenter, results), treatment_evidence(design, one, results)
        )
        for one in treatments
        if one.n_generators > 1
    ]


def conclude_treatments(effects: Sequence[TreatmentEffect], compare: Compare) -> list[TreatmentEffect]:
    """Return the effects with verdicts, whose p-values are adjusted over all of them (Holm)."""
    conclusions = conclude([one.evidence for one in effects], compare)
    return [
        TreatmentEffect(one.treatment, one.spread, one.evidence, conclusion)
        for one, conclusion in zip(effects, conclusions, strict=True)
    ]


def treatment_evidence(design: Design, treatment: Treatment, results: Results) -> Evidence:
    """Return the difference of a treatment to the reference in Dice on test images, and every p it rests on."""
    difference = treatment_difference(design, treatment, results)
    return weigh_evidence(difference, design.compare, design.compare.margin, design.seed, limit=1.0)


def treatment_difference(design: Design, treatment: Treatment, results: Results) -> PairedDifference:
    """Return the difference of a treatment to the reference on test images, averaged over its trained generators."""
    by_generator = _differences(design, treatment, results)
    images = by_generator.mean(0)
    noise = _seed_noise(design, treatment, results, images)
    return results.test_difference(images, noise, by_generator.mean(1) if treatment.n_generators > 1 else None)


def _differences(design: Design, treatment: Treatment, results: Results) -> Table:
    """Return the test scores of every set of a treatment minus those of the reference [generators, seeds, images]."""
    reference = results.tables[design.reference_of(treatment.training_sets[0]), "test", "dice"]
    return np.stack([results.tables[name, "test", "dice"] - reference for name in treatment.training_sets])


def _seed_noise(design: Design, treatment: Treatment, results: Results, images: Table) -> Noise:
    """Return the noise of seeds of a treatment; its sets share their seeds with the reference or have others."""
    own = design.reference_of(treatment.training_sets[0])
    offsets = {design.training_sets[name].seed_offset for name in (own, treatment.training_sets[0])}
    if len(offsets) == 1:
        return seed_noise([results.by_unit(images, "test")])
    reference = results.tables[own, "test", "dice"]
    return unpaired_noise(results.by_unit(images + reference, "test"), results.by_unit(reference, "test"))


def _spread(
    design: Design, treatment: Treatment, generators: Mapping[str, GeneratorEntry], segmenter: str, results: Results
) -> GeneratorSpread:
    sets = [design.training_sets[name] for name in treatment.training_sets]
    names = [one.generator for one in sets if one.generator]
    differences = _differences(design, treatment, results).mean((1, 2))
    return GeneratorSpread(
        segmenter,
        generators[names[0]].method_of(names[0]),
        sets[0].multiplier,
        generators=" ".join(names),
        seeds=" ".join(str(generators[name].seed) for name in names),
        options=sets[0].options,
        seed_sd=float(differences.std(ddof=1)),
        least=float(differences.min()),
        most=float(differences.max()),
    )
