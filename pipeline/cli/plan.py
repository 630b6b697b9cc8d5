"""What a study would do, counted without weights: training pairs, generators, images, training sets, cells.

Real images are those of train; where the split is drawn, validation is taken from them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.pair_limit import Limited
from pipeline.data.decoding import Fault, InvalidData
from pipeline.stages.compare.params import Compare, common_training_set, reference_of, rivals
from pipeline.stages.finetune.params import GeneratorEntry, rival_generators
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.mix.treatments import treatments
from pipeline.stages.prepare.params import Data
from pipeline.stages.prepare.unlabelled import pictures
from pipeline.study import Params

READER_PAIRS = {"pranet": 1450, "kvasir": 1000}  # training pairs of published sets, before validation is drawn
STUDY_PAIRS = {"isic2016": 900, "isic2016_ablations": 900, "isic2018": 2594, "stain": 300, "faeces": 274}


@dataclass(frozen=True)
class GeneratorPlan:
    """One entry of `generators`."""

    name: str
    method: str
    masks: str
    control: str
    copies: int  # images per mask
    images: int | None  # None: known with the data
    limit: int | None = None  # real pairs that it sees; None: all
    pseudo_labelled: int = 0  # images without masks that may get pseudo-labels for it, at most


@dataclass(frozen=True)
class Plan:
    """The work of a study in numbers."""

    study: str
    pairs: int | None  # real training pairs; None: known with the data
    generators: tuple[GeneratorPlan, ...]
    trainings: int  # different generators; entries that differ in masks or copies alone share one
    training_sets: tuple[str, ...]
    segmenters: tuple[str, ...]
    seeds: int
    confirmation: int  # trainings of the largest treatment, the reference and a rival with fresh seeds; 0: none
    comparison: str | None  # of segmenters with each other

    @property
    def cells(self) -> int:
        """Trainings of segmenters."""
        return len(self.training_sets) * len(self.segmenters) * self.seeds

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return asdict(self) | {"cells": self.cells}

    def lines(self) -> Iterator[str]:
        """Yield the plan in words."""
        yield f"study {self.study}: all parameters are valid, those of every plug-in too"
        pairs = self.pairs or "unknown until the data is here (or --pairs)"
        yield f"real training pairs: {pairs} (validation is taken from them)"
        if self.generators:
            count = len(self.generators)
            yield f"finetune, generate, score, audit: {count} entries, {self.trainings} different generators"
        else:
            yield "base, finetune, generate, judge, score, audit: nothing to do; the study has no generators"
        for entry in self.generators:
            images = f"{entry.images} images" if entry.images else f"{entry.copies} images per mask"
            shown = " with their images" if entry.control == "mask_image" else ""
            seen = f", {entry.limit} real pairs" if entry.limit else ""
            seen += f", at most {entry.pseudo_labelled} images with pseudo-labels" if entry.pseudo_labelled else ""
            yield f"  {entry.name}: {entry.method}{seen}, masks {entry.masks}{shown}, {images}"
        sets = len(self.training_sets)
        yield f"mix: {sets} training sets: {', '.join(self.training_sets)}"
        yield (
            f"segment: {sets} sets x {len(self.segmenters)} segmenters ({', '.join(self.segmenters)}) x {self.seeds}"
            f" seeds = {self.cells} cells"
        )
        if self.confirmation:
            trained = "the arm that validation chooses, the reference and the best rival, if there is one"
            yield f"confirm: {trained}: at most {self.confirmation} cells"
        if self.comparison:
            yield f"compare: {self.comparison}"


def make_plan(params: Params, pairs: int | None) -> Plan:
    """Count the work of a study with so many real training pairs (None: unknown)."""
    entries, unlabelled = params.generators.items(), unlabelled_images(params.data)
    return Plan(
        params.study,
        pairs,
        tuple(_generator_plan(name, entry, pairs, unlabelled) for name, entry in entries),
        len({_recipe(name, one) for name, one in entries}),
        tuple(params.training_sets),
        tuple(params.segmenters),
        len(params.segment.seeds),
        max(map(len, confirmations(params)), default=0) * fresh_seeds(params),
        _comparison(params.compare),
    )


def _recipe(name: str, entry: GeneratorEntry) -> tuple[object, ...]:
    """Return what tells different generators apart."""
    return entry.method_of(name), repr(sorted(entry.options.items())), entry.pair_limit, entry.pseudo_labels


def _generator_plan(name: str, entry: GeneratorEntry, pairs: int | None, unlabelled: int) -> GeneratorPlan:
    about = name, entry.method_of(name), entry.masks, entry.control, entry.copies
    seen = within(entry, pairs) if entry.limit else None
    return GeneratorPlan(*about, image_count(entry, pairs, unlabelled), seen, unlabelled if entry.pseudo_labels else 0)


def confirmations(params: Params) -> list[tuple[str, ...]]:
    """Return, per treatment and rival, the training sets that a confirmation of them trains; [] without one."""
    if params.confirm is None:
        return []
    sets, reference = params.training_sets, params.compare.reference
    against = rivals(sets, rival_generators(params.generators), reference)
    found: list[tuple[str, ...]] = []
    for one in treatments(sets, params.generators, reference):
        own = reference_of(sets, reference, one.training_sets[0])
        alike = [(name,) for name in against if reference_of(sets, reference, name) == own]
        found += [(own, *one.training_sets, *rival) for rival in alike or [()]]
    return found


def fresh_seeds(params: Params) -> int:
    """Return the number of seeds of a confirmation; 0 where a study has none."""
    return len(params.confirm.seeds) if params.confirm else 0


def _comparison(compare: Compare) -> str | None:
    segmenters = compare.segmenters
    if segmenters is None:
        return None
    metrics, training_set = ", ".join(segmenters.metrics), common_training_set(compare)
    return f"every segmenter with {segmenters.reference} in {metrics}, on the training set {training_set}"


def training_pairs(study: str, data: Data) -> int | None:
    """Return the number of training pairs, as published or listed by the reader; None where it is unknown."""
    return published_pairs(study, data) or listed_pairs(data)


def published_pairs(study: str, data: Data) -> int | None:
    """Return the number of training pairs that is known without the data; None where only the data tells."""
    return data.train_limit or data.options.get("train") or STUDY_PAIRS.get(study) or READER_PAIRS.get(data.reader)


def listed_pairs(data: Data) -> int | None:
    """Return the number of training pairs that the reader lists, decoding none; None where it finds no data."""
    sizes = listed_sizes(data)
    return None if sizes is None else round(sizes["train"]) or None


def listed_sizes(data: Data) -> dict[str, float] | None:
    """Return the size of each split that the reader lists, decoding none; None where it finds no data.

    Splits that are drawn from the training pairs have their expected size.
    """
    params = plugins.read_params("readers", data.reader, data.options, "data")
    try:
        items = list(plugins.load("readers", data.reader).read(data, params))
    except UserError:
        return None
    sizes = Counter(item.split or "train" for item in items if not isinstance(item, Fault))
    shares = {"val": data.val_share, "test": data.test_share}
    drawn = {split: share * sizes["train"] for split, share in shares.items() if split not in sizes}
    return {**sizes, **drawn, "train": sizes["train"] - sum(drawn.values())}


def attacked_images(entry: Limited, data: Data, pairs: int | None) -> int | None:
    """Return how many images a membership attack sees, members and controls; None where that depends on the data.

    Controls are the images of validation and test, and training pairs beyond the limit of the data unless the base sees
    these. Those that resemble a training image, which are left out, are not known here.
    """
    members, controls = within(entry, pairs), _controls(data)
    return None if members is None or controls is None else members + controls


def _controls(data: Data) -> int | None:
    sizes: dict[str, Any] | None = {split: data.options.get(split) for split in ("train", "val", "test")}
    if None in sizes.values():
        sizes = listed_sizes(data)
    if sizes is None:
        return None
    seen = data.unlabelled is not None and data.unlabelled.rest
    beyond = 0 if data.train_limit is None or seen else max(0, sizes["train"] - data.train_limit)
    return round(sizes["val"] + sizes["test"] + beyond)


def unlabelled_images(data: Data) -> int:
    """Return the number of images without masks that can be listed, decoding none; 0 where the data is not here."""
    if data.unlabelled is None:
        return 0
    listed = listed_pairs(data) if data.unlabelled.rest else None
    rest = max(0, (listed or 0) - (data.train_limit or 0))
    try:
        return rest + len(pictures(Path(data.unlabelled.folder))) if data.unlabelled.folder else rest
    except InvalidData:
        return rest


def image_count(entry: GeneratorEntry, pairs: int | None, unlabelled: int) -> int | None:
    """Return the number of images that an entry generates; None where that depends on the data.

    All of so many `unlabelled` images count where the entry draws images for pseudo-labels too, so that it is the
    highest number: those in which no foreground is found are left out.
    """
    masks = _masks(entry, pairs, unlabelled)
    return None if masks is None else masks * entry.copies


def _masks(entry: GeneratorEntry, pairs: int | None, unlabelled: int) -> int | None:
    own = within(entry, pairs)
    return entry.count or (own and own + (unlabelled if entry.pseudo_labels else 0))


def within(entry: Limited, pairs: int | None) -> int | None:
    """Return how many of the real training pairs an entry gets; None where that depends on the data."""
    return pairs if entry.limit is None else min(entry.limit, pairs or entry.limit)


def set_size(
    entry: TrainingSet, generators: Mapping[str, GeneratorEntry], pairs: int | None, unlabelled: int
) -> int | None:
    """Return the number of images of a training set before screening; None where that depends on the data.

    As for `image_count`, all `unlabelled` images count where they get pseudo-labels.
    """
    real, predicted = within(entry, pairs), unlabelled if entry.unlabelled == "pseudo_labels" else 0
    if real is None or entry.generator is None:
        return real and real * entry.repeat + predicted
    masks = _masks(generators[entry.generator], pairs, unlabelled)
    return None if masks is None else real * entry.repeat + predicted + masks * entry.multiplier


def equal_costs(generators: Mapping[str, GeneratorEntry]) -> list[list[str]]:
    """Group the entries that cost the same: one method, and parameters that differ in weights above 0 only."""
    groups: dict[str, list[str]] = {}
    for name, entry in generators.items():
        switches = {key: value > 0 if isinstance(value, float) else value for key, value in entry.options.items()}
        relevant = {
            key: value for key, value in switches.items() if key not in ("w_c", "w_m", "start") and value is not True
        }
        groups.setdefault(f"{entry.method_of(name)} {sorted(relevant.items())}", []).append(name)
    return list(groups.values())


def weight_sources(generators: Mapping[str, GeneratorEntry]) -> dict[str, str]:
    """Return by entry the name of the first one with the same weights: itself, where it is fine-tuned."""
    first: dict[str, str] = {}
    sources = {}
    for name, entry in generators.items():
        own = entry.seed, entry.learning_rate, entry.privacy, entry.pair_limit, entry.pseudo_labels
        key = f"{entry.method_of(name)} {sorted(entry.options.items())} {own}"
        sources[name] = first.setdefault(key, name)
    return sources
