"""twinsynth estimate: steps, arithmetic, memory per device, disk and time of a study, before anything starts."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import add_json, declare, tell, tell_json

if TYPE_CHECKING:
    from pipeline.cli.forecast import Disk, Fit, Forecast, Machine, Work

SHARDINGS = ("none", "zero2", "fsdp2")


def add(subparsers: Any) -> None:
    """Declares the verb."""
    parser = declare(
        subparsers,
        "estimate",
        "tell steps, arithmetic, memory, disk and time of a study before anything starts",
        "twinsynth estimate",
        "twinsynth estimate --study polyps --devices 8 --memory 80 --tflops 400",
        "twinsynth estimate --study polyps --devices 4 --memory 24 --sharding zero2 --json",
    )
    parser.add_argument("--study", default="params.yaml", help="a study file, or a name in configs/studies")
    parser.add_argument("--pairs", type=_count, help="real training pairs, where neither name nor data tells them")
    parser.add_argument("--devices", type=_count, help="GPUs that work together")
    parser.add_argument("--memory", type=_amount, help="GiB of one device")
    parser.add_argument("--tflops", type=_amount, help="arithmetic per second of one device in training (default: 60)")
    parser.add_argument("--sharding", choices=SHARDINGS, default="none", help="how the launch lays weights out")
    add_json(parser)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, found {text}")
    return number


def _amount(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"must be above 0, found {text}")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Prints the forecast; 1 where fine-tuning fits none of the machines. Raises UserError."""
    from pipeline.cli.commands.check_study import find
    from pipeline.cli.forecast import forecast
    from pipeline.stages.prepare.validation import check_plugins
    from pipeline.study import load_params

    path = Path(arguments.study)
    params = load_params(path if path.is_file() or path.name == "params.yaml" else find(arguments.study))
    check_plugins(params)
    with redirect_stdout(sys.stderr):
        told = forecast(params, machines(arguments), arguments.pairs)
    if arguments.json:
        tell_json(told.plain())
    else:
        tell("\n".join(lines(told)))
    return int(not any(fit.fits for fit in told.fits))


def machines(arguments: argparse.Namespace) -> list["Machine"]:
    """The one that the arguments describe, else this one and the presets."""
    from pipeline.cli.doctor.devices import hardware, machine
    from pipeline.cli.forecast import GIB, GPU_TFLOPS, Machine, of_preset
    from pipeline.core.errors import UserError
    from pipeline.stages.finetune.presets import chosen, load, names

    asked = arguments.devices or arguments.memory or arguments.tflops
    if asked and not arguments.memory:
        raise UserError("--devices and --tflops need --memory: GiB of one device")
    if asked:
        count = arguments.devices or 1
        rate = arguments.tflops or GPU_TFLOPS
        name = f"{count} x {arguments.memory:g} GiB"
        return [Machine(name, count, arguments.memory * GIB, rate, arguments.sharding)]
    presets = [] if chosen() else [of_preset(f"PRESET={name}", load(name)) for name in names()]
    return [machine(hardware()), *presets]


def lines(told: "Forecast") -> Iterator[str]:
    """The forecast in words."""
    pairs = told.pairs or "unknown until the data is here (or --pairs)"
    yield f"study {told.study}: real training pairs: {pairs}"
    for name, cost in told.costs.items():
        if cost is None:
            yield f"  {name}: nothing to train"
        else:
            yield (
                f"  {name}: {cost.trained:,} parameters trained, {cost.frozen:,} frozen;"
                f" {_operations(cost.mean)} per sample of a step"
            )
    yield f"{'stage':<10}{'entry':<24}{'steps':>10}  operations, counted (steps of generate: images; no scoring)"
    yield from map(_work, told.work)
    yield f"disk (estimate): {_disk(told.disk)}"
    yield "machines (memory of the heaviest fine-tuning per device; time from assumed arithmetic per second):"
    yield from map(_fit, told.fits)


def _work(work: "Work") -> str:
    steps = "?" if work.steps is None else f"{work.steps:,}"
    return f"{work.stage:<10}{work.entry:<24}{steps:>10}  {_operations(work.operations)}"


def _operations(number: float | None) -> str:
    if number is None:
        return "not counted"
    return f"{number / 1e15:.3g} PFLOP" if number >= 1e15 else f"{number / 1e12:.3g} TFLOP"


def _disk(disk: "Disk") -> str:
    images = "images unknown" if disk.images is None else f"{disk.images / 1e9:.2g} GB images"
    return (
        f"{disk.total / 1e9:.3g} GB with DVC's second copy: {disk.base / 1e9:.2g} GB base,"
        f" {disk.generators / 1e9:.2g} GB generators, {disk.checkpoints / 1e9:.2g} GB checkpoints, {images}"
    )


def _fit(fit: "Fit") -> str:
    hours = ", ".join(f"{stage} {_time(value)}" for stage, value in fit.hours.items() if value)
    needed = (
        "nothing to fine-tune"
        if fit.needed is None
        else (f"{fit.needed / 1e9:.3g} GB of {fit.memory / 1e9:.3g}, {'fits' if fit.fits else 'DOES NOT FIT'}")
    )
    return f"  {fit.machine}: {needed}; {hours}; all {_time(sum(fit.hours.values()))}"


def _time(hours: float) -> str:
    for unit, size in (("h", 1.0), ("min", 1 / 60)):
        if hours >= size:
            return f"{hours / size:.2g} {unit}"
    return f"{max(hours * 3600, 1):.0f} s"
