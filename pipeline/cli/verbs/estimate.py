"""twinsynth estimate: images, steps, arithmetic, memory per device, disk and time of a study before anything starts."""

import argparse
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from pipeline.cli.forecast_text import lines, missing_base
from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.cli.verbs.study import study_file

if TYPE_CHECKING:
    from pipeline.cli.forecast import Machine
    from pipeline.study import Params

SHARDINGS = ("none", "zero2", "fsdp2")


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "estimate",
        "check a study and estimate images, steps, arithmetic, memory, disk and time before anything starts",
        "twinsynth estimate",
        "twinsynth estimate --study polyps --plan",
        "twinsynth estimate --power 200",
        "twinsynth estimate --power 200 --like kvasir",
        "twinsynth estimate --study polyps --devices 8 --memory 80 --tflops 400",
        "twinsynth estimate --study polyps --devices 4 --memory 24 --sharding zero2 --json",
    )
    parser.add_argument("--study", default="params.yaml", help="a study file, or a name in configs/studies")
    parser.add_argument(
        "--plan", action="store_true", help="only check and plan, without arithmetic, memory, disk and time"
    )
    parser.add_argument(
        "--power", type=_count, metavar="IMAGES", help="only plan the comparison, for this many independent test images"
    )
    parser.add_argument("--like", metavar="STUDY", help="with --power: use the noise of this finished study")
    parser.add_argument(
        "--pairs", type=_count, help="number of real training pairs, if neither the study nor the data says it"
    )
    parser.add_argument("--devices", type=_count, help="number of GPUs that work together")
    parser.add_argument("--memory", type=_amount, help="GiB of one device")
    parser.add_argument("--tflops", type=_amount, help="arithmetic per second of one device in training (default: 60)")
    parser.add_argument("--sharding", choices=SHARDINGS, default="none", help="how the launch shards weights")
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
    """Print plan and forecast; return 1 where fine-tuning fits none of the machines. Raises UserError."""
    from pipeline.cli.plan import make_plan, training_pairs
    from pipeline.stages.prepare.validation import check_plugins
    from pipeline.study import load_params

    params = load_params(study_file(arguments.study))
    if arguments.power or arguments.like:
        return plan_power(params, arguments)
    with redirect_stdout(sys.stderr):  # progress
        check_plugins(params)
        pairs = arguments.pairs or training_pairs(params.study, params.data)
    batch = params.finetune and params.finetune.global_batch
    plan, devices = make_plan(params, pairs), [] if arguments.plan else machines(arguments, batch)
    if not arguments.json:
        tell("\n".join(plan.lines()))
        sys.stdout.flush()
    if arguments.plan:
        if arguments.json:
            tell_json(plan.record())
        return 0
    from pipeline.cli.forecast import forecast

    with redirect_stdout(sys.stderr):
        result = forecast(params, devices, pairs)
    if note := missing_base(params.base):
        sys.stderr.write(f"warning: {note}\n")
    if arguments.json:
        tell_json(result.record())
    else:
        tell("\n".join(lines(result)))
    return int(not any(fit.fits for fit in result.fits))


def plan_power(params: "Params", arguments: argparse.Namespace) -> int:
    """Print with which chance the study would find a true gain, and the sizes that would do. Raises UserError."""
    from pipeline.cli.power_plan import power_plan
    from pipeline.core.errors import UserError

    if not arguments.power:
        raise UserError("--like needs --power: the number of independent test images")
    plan = power_plan(params, arguments.power, arguments.like)
    if arguments.json:
        tell_json(plan.record())
    else:
        tell("\n".join(plan.lines()))
    return 0


def machines(arguments: argparse.Namespace, batch: int | None = None) -> list["Machine"]:
    """Return the machine that the arguments describe, else this one, whose GPUs share a batch, and the presets."""
    from pipeline.cli.doctor.devices import hardware, machine
    from pipeline.cli.forecast import GIB, GPU_TFLOPS, Machine, preset_machine
    from pipeline.core.errors import UserError
    from pipeline.stages.finetune.presets import chosen, load, names

    described = arguments.devices or arguments.memory or arguments.tflops
    if described and not arguments.memory:
        raise UserError("--devices and --tflops need --memory: GiB of one device")
    if described:
        count = arguments.devices or 1
        rate = arguments.tflops or GPU_TFLOPS
        name = f"{count} x {arguments.memory:g} GiB"
        return [Machine(name, count, arguments.memory * GIB, rate, arguments.sharding)]
    presets = [] if chosen() else [preset_machine(name, load(name)) for name in names()]
    return [machine(hardware(), batch=batch), *presets]
