"""The text of a study file: values that fit the survey and the machine, each choice with its reason."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from pipeline.cli.init_study.layouts import DatasetLayout
from pipeline.cli.init_study.survey import SMALL_SIDE, Survey
from pipeline.core.errors import UserError

FOLDER = Path(__file__).parent
DATA_FILES = ("cpu.yaml.txt", "gpu.yaml.txt")
PLAIN = re.compile(r"[A-Za-z/][\w./-]*( [\w.-]+)*")  # text that YAML takes for text without quotes
WORDS = ("true", "false", "null", "yes", "no", "on", "off")
FEW = 100  # training pairs of a first run without a GPU
MANY_SMALL = 0.1  # share of small lesions from which a larger size is taken


@dataclass(frozen=True)
class Target:
    """The hardware that a study is planned for."""

    gpu: bool
    processors: int


@dataclass(frozen=True)
class UnlabelledFolder:
    """A folder of images without masks."""

    folder: Path
    images: int


def write(
    name: str,
    layout: DatasetLayout,
    survey: Survey,
    target: Target,
    project: Path,
    unlabelled: UnlabelledFolder | None = None,
) -> str:
    """Return a study's YAML; `project` is the folder that paths may be relative to."""
    template = Template((FOLDER / ("gpu.yaml.txt" if target.gpu else "cpu.yaml.txt")).read_text(encoding="utf-8"))
    size = choose_size(survey, target)
    train = survey.splits.get("train", 0) + survey.splits.get("drawn", 0)
    values = {
        "name": name,
        "title": layout.title,
        "threads": min(4, target.processors),
        "data": "\n".join([*_data(layout, survey, target, size, project), *_unlabelled(unlabelled, target, project)]),
        "seen": "\n".join(f"# {line}" for line in summary(survey)),
        "batch": batch_size(train, 16),
        "half": batch_size(train, 32),
    }
    return template.substitute(values)


def batch_size(pairs: int, maximum: int) -> int:
    """Return the largest power of two up to `maximum` that the training pairs can fill."""
    while maximum > 1 and maximum > pairs * 0.7:  # about what is left when validation and test are drawn
        maximum //= 2
    return maximum


def choose_size(survey: Survey, target: Target) -> int:
    """Return the pixels of a side that the machine can handle, not much more than the images have."""
    choices = (128, 256, 384) if target.gpu else (64, 96)
    fitting = [choice for choice in choices if choice <= min(survey.size)] or [choices[0]]
    if target.gpu:
        return fitting[-1]
    return fitting[-1] if survey.small(choices[0]) > MANY_SMALL else fitting[0]


def summary(survey: Survey) -> list[str]:
    """Return the survey in sentences; no file is named, for a study may be shared."""
    width, height = survey.size
    counts = ", ".join(f"{count} {name}" for name, count in sorted(survey.splits.items()))
    grouped = f" in {survey.groups} patients or volumes" if survey.groups else ""
    kind = "colour" if survey.colour else "grey"
    lines = [
        f"{survey.pairs} pairs ({counts.replace('drawn', 'without a split')}){grouped}",
        f"looked at {len(survey.sample)}: {kind} images, {width} x {height} pixels (median)",
        f"masks hold {_values(survey)}: {survey.num_classes} classes with background; {survey.empty} are empty",
    ]
    if survey.faults:
        lines.append(f"{len(survey.faults)} things to mend; twinsynth doctor names them")
    return lines


def _values(survey: Survey) -> str:
    if len(survey.values) > 8:
        return f"{len(survey.values)} grey levels from {survey.values[0]} to {survey.values[-1]}"
    return ", ".join(map(str, survey.values))


def _data(layout: DatasetLayout, survey: Survey, target: Target, size: int, project: Path) -> list[str]:
    """Return the lines of section data below its key."""
    keys: dict[str, Any] = {"reader": layout.reader, "root": _place(layout.root, project), **layout.keys}
    lines = [*_section(keys), *(f"# {remark}" for remark in layout.remarks)]
    lines += [
        f"size: {size:<10}# {_about_size(survey, size)}",
        f"num_classes: {survey.num_classes:<3}# background included; {_about_classes(survey)}",
        f"prompt: {scalar(layout.prompt)}  # say what the images show, in words that the base knows",
        "near_duplicates: warn  # images that look alike in two splits: warn, error, or regroup (moved into train)",
    ]
    if "val" not in survey.splits:
        lines.append("val_share: 0.1     # of the training pairs; those of one patient or volume stay together")
    if "test" not in survey.splits:
        lines.append("test_share: 0.2    # likewise")
    if not target.gpu and survey.pairs > FEW:
        lines.append(
            f"train_limit: {FEW}   # use so few for a first run; remove it to train on all, which takes longer"
        )
    return [f"  {line}" for line in lines]


def _unlabelled(unlabelled: UnlabelledFolder | None, target: Target, project: Path) -> list[str]:
    """Return the lines of data.unlabelled; an imported base does not see the images, and the remark says so."""
    if unlabelled is None:
        return []
    use = (
        "the base below comes from elsewhere and does not see them" if target.gpu else "the base is pretrained on them"
    )
    place = scalar(_place(unlabelled.folder, project))
    return ["  unlabelled:", f"    folder: {place}  # {unlabelled.images} images without masks; {use}"]


def _about_size(survey: Survey, size: int) -> str:
    small = survey.small(size)
    text = f"pixels, squashed to a square; a multiple of {64 if size % 64 == 0 else 32}"
    few = f"{small:.0%} of the lesions are below {SMALL_SIDE} x {SMALL_SIDE} pixels at this size"
    return f"{text}; {few}" if small else text


def _about_classes(survey: Survey) -> str:
    if survey.num_classes > 2:
        absent = sorted(set(range(survey.num_classes)) - set(survey.values))
        return f"the masks hold labels 0 to {survey.num_classes - 1}" + (f"; not seen: {absent}" if absent else "")
    return "foreground is what exceeds 127" if max(survey.values) > 1 else "the masks hold 0 and 1"


def _section(keys: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {scalar(value) if isinstance(value, str) else json.dumps(value)}" for key, value in keys.items()]


def scalar(text: str) -> str:
    """Return text as YAML reads it back. Raises UserError where it cannot be printed."""
    if not text.isprintable():
        raise UserError(f"{text!r} holds characters that cannot be printed; rename the folder, or use other words")
    plain = PLAIN.fullmatch(text) and text.lower() not in WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def _place(root: Path, project: Path) -> str:
    """Return a path relative to `project` where it lies below, so that the study can be shared; else absolute."""
    absolute = root.resolve()
    return (
        absolute.relative_to(project.resolve()) if absolute.is_relative_to(project.resolve()) else absolute
    ).as_posix()
