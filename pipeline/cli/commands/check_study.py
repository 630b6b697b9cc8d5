"""Checks a study without weights or data, and tells what it would do and need: make check-study STUDY=polyps."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.cli.forecast import PAIR_BYTES, alike, images, known_pairs
from pipeline.core.errors import UserError
from pipeline.stages.finetune import presets
from pipeline.stages.prepare.validation import check_plugins
from pipeline.study import Params, load_params

STUDIES = Path("configs/studies")
PRESETS = ("8x24g", "1x24g", "1x80g")


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the plan and exits with status 0, or one line and status 2."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="a name in configs/studies, or a file")
    parser.add_argument("--pairs", type=int, help="real training pairs, where the study's name does not tell them")
    parser.add_argument("--plan", action="store_true", help="only check and plan; count nothing")
    arguments = parser.parse_args(argv)
    try:
        for line in report(find(arguments.study), arguments.pairs, counted=not arguments.plan):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except UserError as error:
        sys.stderr.write("error: " + "; ".join(part.strip() for part in str(error).splitlines()) + "\n")
        raise SystemExit(2) from None


def find(study: str, folder: Path = STUDIES) -> Path:
    """The file of a study. Raises UserError listing those there are."""
    path = Path(study) if study.endswith((".yaml", ".yml")) else folder / f"{study}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise UserError(f"there is no study {study!r}; there are: {there}")
    return path


def report(path: Path, pairs: int | None = None, counted: bool = True) -> Iterator[str]:
    """The lines of the plan. Raises UserError."""
    params = load_params(path)
    check_plugins(params)
    pairs = pairs or known_pairs(params)
    yield f"study {params.study}: all parameters are valid, those of every plug-in too"
    yield from plan(params, pairs)
    if counted:
        yield from needs(params, pairs)


def plan(params: Params, pairs: int | None) -> Iterator[str]:
    """Stages, arms and cells."""
    tuned = {(entry.method or name, repr(sorted(entry.own.items()))) for name, entry in params.generators.items()}
    arms, segmenters, seeds = len(params.training_sets), len(params.segmenters), len(params.segment.seeds)
    yield f"real training pairs: {pairs or 'known when the data is there'} (validation is taken from them)"
    if params.generators:
        yield f"finetune, generate, score, audit: {len(params.generators)} entries, {len(tuned)} different generators"
    else:
        yield "base, finetune, generate, judge, score, audit: nothing to do; the study has no generators"
    for name, entry in params.generators.items():
        number = images(entry, pairs)
        told = f"{number} images" if number else f"{entry.copies} images per mask"
        yield f"  {name}: {entry.method or name}, masks {entry.masks}, {told}"
    yield f"mix: {arms} training sets: {', '.join(params.training_sets)}"
    yield f"segment: {arms} sets x {segmenters} segmenters ({', '.join(params.segmenters)}) x {seeds} seeds = " + (
        f"{arms * segmenters * seeds} cells"
    )
    if between := params.compare.segmenters:
        told = f"{', '.join(between.metrics)}, on the training set {params.compared_on}"
        yield f"compare: every segmenter with {between.reference} in {told}"


def needs(params: Params, pairs: int | None) -> Iterator[str]:
    """Parameters, arithmetic, memory, disk and time; what rests on assumptions is called an estimate.

    Nothing without generators: the arithmetic of segmenters is told by `twinsynth estimate`.
    """
    if not params.generators:
        return
    from pipeline.stages.finetune.memory import Cost, Subject  # loads torch

    costs: dict[str, tuple[Subject, Cost]] = {}
    settings = params.finetune
    yield f"per sample of a training step at {params.data.size} pixels (counted, exact):"
    for key, names in alike(params).items():
        subject = Subject(params, names[0])
        cost = subject.cost()
        if cost is None:
            yield f"  {', '.join(names)}: nothing to train"
            continue
        costs[key] = subject, cost
        yield (
            f"  {', '.join(names)}: {cost.trained:,} parameters trained, {cost.frozen:,} frozen;"
            f" {cost.early / 1e12:.3g} TFLOP early, {cost.late / 1e12:.3g} late"
        )
    if not costs:
        return
    total = sum(cost.mean for _, cost in costs.values()) * settings.max_steps * settings.global_batch
    heaviest, largest = max(costs.values(), key=lambda pair: pair[1].late)
    yield from _disk(params, pairs, largest.trained)
    yield from _machines(params, heaviest, total, pairs)


def _disk(params: Params, pairs: int | None, trained: int) -> Iterator[str]:
    generators = len({(e.method or n, repr(e.own)) for n, e in params.generators.items()})
    numbers = [images(entry, pairs) for entry in params.generators.values()]
    weights = 4 * trained * generators / 1e9
    line = (
        f"disk (estimate): {weights:.3g} GB of weights, {12 * trained / 1e9:.3g} GB per kept checkpoint while training"
    )
    if all(numbers):
        size = sum(number or 0 for number in numbers) * PAIR_BYTES * params.data.size**2
        line += f", {size / 1e9:.2g} GB of synthetic images"
    yield line


def _machines(params: Params, heaviest: Any, total: float, pairs: int | None) -> Iterator[str]:
    from pipeline.stages.finetune.memory import GB, sampling_operations

    numbers = [images(entry, pairs) for entry in params.generators.values()]
    drawing = sampling_operations(params) * sum(number or 0 for number in numbers)
    yield "estimates: memory per device of the heaviest entry; time from assumed TFLOP/s, without segmenters:"
    for name in [presets.chosen()] if presets.chosen() else PRESETS:
        preset = presets.load(name or "")
        settings = presets.under(params.finetune, preset)
        needed = heaviest.memory(settings, preset.devices, preset.sharding)
        assert needed is not None
        fits = "fits" if needed.total <= preset.memory_gib * 2**30 else "DOES NOT FIT"
        if settings.optimizer == "adamw_8bit" and preset.sharding != "none":
            fits = "NOT POSSIBLE: adamw_8bit cannot be sharded"
        rate = preset.tflops * 1e12 * preset.devices * 3600
        hours = f"training all {total / rate:.2g} h" + (f", generating all {drawing / rate:.2g} h" if drawing else "")
        yield (
            f"  PRESET={name} LAUNCH={preset.launch}:"
            f" {needed.total / GB:.3g} GB of {preset.memory_gib * 2**30 / GB:.3g}, {fits}; {hours}"
        )


if __name__ == "__main__":
    main()
