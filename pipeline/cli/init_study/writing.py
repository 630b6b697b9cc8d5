"""The text of a study file: values that fit what was seen and the machine, each choice with its reason."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from pipeline.cli.init_study.layouts import Layout
from pipeline.cli.init_study.survey import SMALL_SIDE, Survey
from pipeline.core.errors import UserError

FOLDER = Path(__file__).parent
PLAIN = re.compile(r"[A-Za-z/][\w./-]*( [\w.-]+)*")  # text that YAML takes for text without quotes
WORDS = ("true", "false", "null", "yes", "no", "on", "off")
FEW = 100  # training pairs of a first run without a GPU
MANY_SMALL = 0.1  # share of small lesions from which a larger size is taken


@dataclass(frozen=True)
class Machine:
    """What a study is planned for."""

    gpu: bool
    processors: int


def write(name: str, layout: Layout, seen: Survey, machine: Machine, here: Path) -> str:
    """A study's YAML; `here` is the folder that paths may be relative to."""
    template = Template((FOLDER / ("gpu.yaml.txt" if machine.gpu else "cpu.yaml.txt")).read_text(encoding="utf-8"))
    size = choose_size(seen, machine)
    train = seen.splits.get("train", 0) + seen.splits.get("drawn", 0)
    values = {
        "name": name,
        "title": layout.title,
        "threads": min(4, machine.processors),
        "data": "\n".join(_data(layout, seen, machine, size, here)),
        "seen": "\n".join(f"# {line}" for line in summary(seen)),
        "batch": batch(train, 16),
        "half": batch(train, 32),
    }
    return template.substitute(values)


def batch(pairs: int, wanted: int) -> int:
    """A batch size that the training pairs can fill: a power of two."""
    while wanted > 1 and wanted > pairs * 0.7:  # about what is left when validation and test are drawn
        wanted //= 2
    return wanted


def choose_size(seen: Survey, machine: Machine) -> int:
    """Pixels of the square images: what the machine can bear, not much more than the images have."""
    choices = (128, 256, 384) if machine.gpu else (64, 96)
    fitting = [choice for choice in choices if choice <= min(seen.size)] or [choices[0]]
    if machine.gpu:
        return fitting[-1]
    return fitting[-1] if seen.small(choices[0]) > MANY_SMALL else fitting[0]


def summary(seen: Survey) -> list[str]:
    """What was seen, in sentences; no file is named, for a study may be handed on."""
    width, height = seen.size
    counts = ", ".join(f"{count} {name}" for name, count in sorted(seen.splits.items()))
    grouped = f" in {seen.groups} patients or volumes" if seen.groups else ""
    kind = "colour" if seen.colour else "grey"
    lines = [
        f"{seen.pairs} pairs ({counts.replace('drawn', 'without a split')}){grouped}",
        f"looked at {len(seen.looks)}: {kind} images, {width} x {height} pixels (median)",
        f"masks hold {_values(seen)}: {seen.num_classes} classes with background; {seen.empty} are empty",
    ]
    if seen.faults:
        lines.append(f"{len(seen.faults)} things to mend; twinsynth doctor names them")
    return lines


def _values(seen: Survey) -> str:
    if len(seen.values) > 8:
        return f"{len(seen.values)} grey levels from {seen.values[0]} to {seen.values[-1]}"
    return ", ".join(map(str, seen.values))


def _data(layout: Layout, seen: Survey, machine: Machine, size: int, here: Path) -> list[str]:
    """The lines of section data below its own."""
    keys: dict[str, Any] = {"reader": layout.reader, "root": _place(layout.root, here), **layout.keys}
    lines = [*_section(keys), *(f"# {remark}" for remark in layout.remarks)]
    lines += [
        f"size: {size:<10}# {_about_size(seen, size)}",
        f"num_classes: {seen.num_classes:<3}# background included; {_about_classes(seen)}",
        f"prompt: {scalar(layout.prompt)}  # say what the images show, in words that the base knows",
        "near_duplicates: warn  # images that look alike in two splits: warn, error, or regroup (moved into train)",
    ]
    if "val" not in seen.splits:
        lines.append("val_share: 0.1     # of the training pairs; those of one patient or volume stay together")
    if "test" not in seen.splits:
        lines.append("test_share: 0.2    # likewise")
    if not machine.gpu and seen.pairs > FEW:
        lines.append(
            f"train_limit: {FEW}   # use so few for a first run; remove it to train on all, which takes longer"
        )
    return [f"  {line}" for line in lines]


def _about_size(seen: Survey, size: int) -> str:
    small = seen.small(size)
    told = f"pixels, squashed to a square; a multiple of {64 if size % 64 == 0 else 32}"
    few = f"{small:.0%} of the lesions are below {SMALL_SIDE} x {SMALL_SIDE} pixels at this size"
    return f"{told}; {few}" if small else told


def _about_classes(seen: Survey) -> str:
    if seen.num_classes > 2:
        absent = sorted(set(range(seen.num_classes)) - set(seen.values))
        return f"the masks hold labels 0 to {seen.num_classes - 1}" + (f"; not seen: {absent}" if absent else "")
    return "foreground is what exceeds 127" if max(seen.values) > 1 else "the masks hold 0 and 1"


def _section(keys: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {scalar(value) if isinstance(value, str) else json.dumps(value)}" for key, value in keys.items()]


def scalar(text: str) -> str:
    """Text as YAML reads it back. Raises UserError where it cannot be printed."""
    if not text.isprintable():
        raise UserError(f"{text!r} holds signs that cannot be printed; rename the folder, or say it otherwise")
    plain = PLAIN.fullmatch(text) and text.lower() not in WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def _place(root: Path, here: Path) -> str:
    """Relative where it lies below `here`, so that the study can be shared; else absolute."""
    absolute = root.resolve()
    return (absolute.relative_to(here.resolve()) if absolute.is_relative_to(here.resolve()) else absolute).as_posix()
