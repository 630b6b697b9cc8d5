"""python -m benchmarks.gpu_check: checks on real GPUs what the tests can only check on a CPU.

Prints a table for benchmarks/results.md and, as its last line, one JSON object. Exits with 1 where a line failed.
"""

import argparse
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check.lines import Check, Outcome, all_lines, outcome
from benchmarks.gpu_check.scale import Scale


def main() -> int:
    """Run the lines, each in fresh processes, and print what they say."""
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__)
    parser.add_argument("--gpus", type=int, default=1, help="processes of the lines that take several")
    parser.add_argument("--toy", action="store_true", help="tiny networks on the CPU: does the check itself work?")
    parser.add_argument("--batch", type=int, help="samples of a step in all lines (default: 24, which takes 80 GB)")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="lines whose name holds one of these")
    parser.add_argument("--work", type=Path, help="where checkpoints of 10 GB have room (default: a temporary folder)")
    arguments = parser.parse_args()
    found = torch.cuda.device_count()
    if not arguments.toy and found < arguments.gpus:
        sys.stderr.write(f"error: {found} CUDA devices here, {arguments.gpus} wanted; --toy tries the check on a CPU\n")
        return 2
    scale = Scale.of(arguments.toy, arguments.batch)
    outcomes = []
    for name, line in all_lines(scale).items():
        if arguments.only and not any(word in name for word in arguments.only):
            continue
        with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
            outcomes.append(outcome(name, line, Check(scale, arguments.gpus, Path(folder))))
        sys.stderr.write(f"{row(outcomes[-1])}\n")
    about = machine(scale, arguments.gpus)
    sys.stdout.write("\n".join([table(outcomes, about), json.dumps({**about, "lines": as_json(outcomes)})]) + "\n")
    return int(any(one.result == "failed" for one in outcomes))


def machine(scale: Scale, processes: int) -> dict[str, Any]:
    """Return what the numbers depend on."""
    device = "CPU, toy size" if scale.toy else torch.cuda.get_device_name()
    versions = {name: version(name) for name in ("torch", "accelerate", "diffusers")}
    return {"device": device, "processes": processes, "batch": scale.batch, **versions}


def table(outcomes: list[Outcome], about: dict[str, Any]) -> str:
    """Return the outcomes as a table in Markdown."""
    title = ", ".join(f"{name} {value}" for name, value in about.items())
    head = [f"{title}:", "", "| line | result | numbers | seconds |", "|---|---|---|---|"]
    return "\n".join([*head, *map(row, outcomes), ""])


def row(one: Outcome) -> str:
    """Return one outcome as a row."""
    result = f"{one.result}: {one.reason}" if one.reason else one.result
    numbers = ", ".join(f"{name} {value}" for name, value in one.numbers.items())
    return f"| {one.line} | {result.replace('|', '/')} | {numbers} | {one.seconds} |"


def as_json(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Return the outcomes as JSON has them."""
    return [one.as_dict() for one in outcomes]


if __name__ == "__main__":
    sys.exit(main())
