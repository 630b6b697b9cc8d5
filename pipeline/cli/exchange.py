"""A study of what synthetic images are worth in labels, written from another study.

For every number n of real pairs it has a generator that sees these n pairs alone, the n real pairs alone, and the n
pairs with the generator's images. The pairs of a smaller n are among those of a larger one (`limit`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from pipeline.cli.plan import training_pairs
from pipeline.core.errors import UserError
from pipeline.core.pair_limit import UNUSED
from pipeline.core.section import parse
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.prepare.params import Data
from pipeline.study import Params

FEWEST = 16  # pairs of the first rung, unless others are asked for
OF_IMAGES = ("synthetic_share", "synthetic_until")  # options of the arm that all arms with images get
OF_ALL = ("steps", "augment")  # and that real images alone get too, so that no rate is due to them


@dataclass(frozen=True)
class Source:
    """The other study."""

    name: str
    data: Data
    generators: Mapping[str, GeneratorEntry]
    training_sets: Mapping[str, TrainingSet]


@dataclass(frozen=True)
class Exchange:
    """The axes of the study to be written."""

    name: str
    pairs: tuple[int, ...]
    multipliers: tuple[int, ...]
    generator: str  # an entry of the other study
    seeds: tuple[int, ...] | None = None  # None: those of the other study


def all_pairs(study: Source) -> int | None:
    """Return the number of training pairs of a study without its data.train_limit; None where it is unknown."""
    return training_pairs(study.name, study.data.model_copy(update={"train_limit": None}))


def ladder(most: int | None) -> tuple[int, ...]:
    """Return 16, 32, 64 ... up to the given number of pairs. Raises UserError if it is unknown or too small."""
    if most is None:
        raise UserError(
            "the number of training pairs is unknown until the data is here; give --pairs, such as 25,50,100"
        )
    rungs = tuple(FEWEST << power for power in range(most.bit_length()) if FEWEST << power <= most)
    if len(rungs) < 2:
        raise UserError(f"{most} training pairs make no ladder that begins with {FEWEST}; give --pairs")
    return rungs


def first_trained(study: Source) -> str:
    """Return the first generator of a study that learns. Raises UserError where there is none."""
    for name, entry in study.generators.items():
        if entry.learns(name):
            return name
    raise UserError(f"the study {study.name} has no generator that is trained; name another one with --from")


def exchange_text(text: str, study: Source, axes: Exchange) -> str:
    """Return the YAML of the exchange study; `text` is that of the other one, whose parameters are `study`.

    Comments of what stays are kept. Raises UserError where the axes do not fit the study.
    """
    _check(study, axes)
    yaml = YAML()
    yaml.width = 1000
    values = yaml.load(text)
    values["study"] = axes.name
    _set_data(values["data"], study.data, axes.pairs, all_pairs(study))
    _replace(values, "generators", _generators(values["generators"], study, axes))
    _replace(values, "training_sets", _training_sets(study, axes))
    if axes.seeds is not None:
        values["segment"]["seeds"] = _flow(CommentedSeq(axes.seeds))
    values["confirm"] = None
    compare = values.setdefault("compare", CommentedMap())
    compare["reference"] = f"real_{axes.pairs[-1]}"
    if compare.get("segmenters"):
        compare["segmenters"]["training_set"] = compare["reference"]
    values.setdefault("report", CommentedMap())["title"] = "How many labels are synthetic images worth?"
    written = StringIO()
    yaml.dump(values, written)
    return _checked(f"{_about(study, axes)}\n{_tidy(written.getvalue())}")


def _check(study: Source, axes: Exchange) -> None:
    """Raise UserError where an axis is empty or does not rise, or where the generator is not there."""
    if axes.generator not in study.generators:
        there = ", ".join(study.generators) or "none"
        raise UserError(f"the study {study.name} has no generator {axes.generator!r}; the available ones are: {there}")
    for name, numbers, least in (("pairs", axes.pairs, 1), ("multipliers", axes.multipliers, 0)):
        if not numbers or list(numbers) != sorted({*numbers}) or numbers[0] < least:
            found = ",".join(map(str, numbers))
            raise UserError(f"--{name} is {found!r}; give rising whole numbers from {least} on, separated by commas")
    if axes.multipliers == (0,):
        raise UserError("--multipliers is 0, which is real images alone; add one above 0, such as 0,2")
    if len(axes.pairs) < 2:
        raise UserError(f"--pairs is {', '.join(map(str, axes.pairs))}; a curve needs two numbers of pairs or more")
    most = all_pairs(study)
    if most is not None and axes.pairs[-1] > most:
        raise UserError(f"--pairs ends in {axes.pairs[-1]}, but the study {study.name} has about {most} training pairs")


def _set_data(data: CommentedMap, section: Data, pairs: Sequence[int], most: int | None) -> None:
    """Let the training split have the pairs of the last rung, and leave the others to the base where it had them."""
    if section.train_limit is None:
        return
    if most is None or pairs[-1] < most:
        data["train_limit"] = pairs[-1]
        data.ca.items.pop("train_limit", None)
        return
    del data["train_limit"]
    if section.unlabelled is not None and section.unlabelled.rest:
        data["unlabelled"].pop("rest")
        if not data["unlabelled"].get("folder"):
            del data["unlabelled"]


def _generators(there: Mapping[str, Any], study: Source, axes: Exchange) -> CommentedMap:
    own = dict(there[axes.generator] or {})
    own |= {"method": study.generators[axes.generator].method_of(axes.generator), "copies": max(axes.multipliers)}
    for key in UNUSED:  # the limits of the other study
        own.pop(key, None)
    keys = {"method": own.pop("method"), **own}
    return CommentedMap({f"{axes.generator}_{n}": _flow(CommentedMap(keys | {"limit": n})) for n in axes.pairs})


def _training_sets(study: Source, axes: Exchange) -> CommentedMap:
    alike = (one for one in study.training_sets.values() if one.generator == axes.generator)
    first = next(alike, None)
    dumped = {} if first is None else first.model_dump(mode="json", exclude_defaults=True)
    of_all, of_images = ({key: dumped[key] for key in keys if key in dumped} for keys in (OF_ALL, OF_IMAGES))
    sets: dict[str, Any] = {}
    for n in axes.pairs:
        sets[f"real_{n}"] = _flow(CommentedMap({"limit": n, **of_all}))
        for m in filter(None, axes.multipliers):
            keys = {"generator": f"{axes.generator}_{n}", "multiplier": m, "limit": n, **of_all, **of_images}
            sets[f"{axes.generator}_x{m}_{n}"] = _flow(CommentedMap(keys))
    return CommentedMap(sets)


def _replace(values: CommentedMap, key: str, section: CommentedMap) -> None:
    """Set a section, and an empty line before what follows it, if anything does, which the old one had at its end."""
    values[key] = section
    names = list(values)
    for following in names[names.index(key) + 1 :][:1]:
        values.yaml_set_comment_before_after_key(following, before="\n")


def _flow(collection: Any) -> Any:
    collection.fa.set_flow_style()
    return collection


def _about(study: Source, axes: Exchange) -> str:
    times = ", ".join(f"x{m}" for m in axes.multipliers if m)
    rungs = ", ".join(map(str, axes.pairs))
    return (
        f'# The study "{axes.name}": how many labels synthetic images are worth, made from the study {study.name}. The'
        f"\n# arms are {rungs} real pairs, alone and with images ({times}) of {axes.generator}, which is"
        "\n# fine-tuned on the same pairs. The base sees all training images without their masks."
    )


def _tidy(text: str) -> str:
    """Return the text without the comment of the other study at its head, and as studies are written by hand."""
    text = re.sub(r"\A(#.*\n)+", "", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)^confirm:.*$", "confirm: null", text))


def _checked(text: str) -> str:
    """Return the same text. Raises UserError where it is no valid study."""
    parse(Params, YAML(typ="safe", pure=True).load(text))
    return text
