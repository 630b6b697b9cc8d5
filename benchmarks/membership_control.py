"""Whether the membership attacks of the audit find a generator that was overfitted on purpose, and spare another one.

    python benchmarks/membership_control.py [--seeds 0 1] [--work FOLDER] [--json]

All generators are a ControlNet over one small base, which is trained on phantoms that belong to none of them: `few` on
20 phantoms for long, `many` on 400 phantoms for fewer steps, and `brief` on the 20 phantoms for 20 steps. Members are
their training images, controls 300 held-out phantoms. Every seed draws other phantoms and other weights, also of the
base.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.core import files, paths
from pipeline.core.section import parse
from pipeline.stages.audit.audit import audit
from pipeline.stages.base.base import make_base
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.generate.generate import generate
from pipeline.stages.prepare.prepare import prepare
from pipeline.study import Params

ENTRY = "controlnet"
BASE = {
    "source": "scratch",
    "autoencoder": {"channels": [16, 32, 64], "max_steps": 300, "batch_size": 16, "crop": 32, "learning_rate": 2e-3},
    "denoiser": {"channels": [32, 64], "max_steps": 500, "batch_size": 16, "learning_rate": 2e-3},
}
MEMBERSHIP = {"scores": ["loss", "pia", "pian", "secmi", "released", "autoencoder"]}
OF_BASE = 1000  # added to the seed of the phantoms that the base sees


@dataclass(frozen=True)
class Case:
    """A generator: its number of training phantoms, and its optimiser steps."""

    train: int
    steps: int


CASES = {"few": Case(20, 1200), "many": Case(400, 600), "brief": Case(20, 20)}


def main() -> None:
    """Trains, attacks, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--work", type=Path, help="folder to work in, kept (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        found = {seed: run(seed, CASES) for seed in arguments.seeds}
    sys.stderr.write("\n".join(table(found)) + "\n")
    if arguments.json:
        sys.stdout.write(json.dumps(found) + "\n")


def run(seed: int, cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    """Train the base and the generators of one seed in the current folder; return membership.json by case."""
    about = study(f"base_{seed}", 300, 1, seed + OF_BASE, BASE)
    prepare(about)
    make_base(about)
    found = {}
    for name, case in cases.items():
        started = time.process_time()
        params = study(f"{name}_{seed}", case.train, case.steps, seed, {"source": str(paths.base(about.study))})
        prepare(params)
        make_base(params)
        finetune(params, ENTRY)
        generate(params, ENTRY)
        audit(params, ENTRY)
        found[name] = files.read_json(paths.audit(params.study, ENTRY) / "membership.json")
        sys.stderr.write(f"seed {seed}, {name}: {time.process_time() - started:.0f} s of CPU\n")
    return found


def study(name: str, train: int, steps: int, seed: int, base: dict[str, Any]) -> Params:
    """Return a study of phantoms of 32 pixels with one generator."""
    values = {
        "study": name,
        "seed": seed,
        "threads": 1,
        "data": {
            "reader": "phantom",
            "size": 32,
            "prompt": "A photo of a polyp.",
            "train": train,
            "val": 20,
            "test": 280,
            "seed": seed,
        },
        "base": base,
        "finetune": {
            "max_steps": steps,
            "global_batch": 16,
            "learning_rate": 1e-3,
            "max_grad_norm": 1.0,
            "checkpoint_every": 1000,
        },
        "generators": {ENTRY: {"copies": 1, "start": 0.02, "hint": "dense"}},
        "generate": {"steps": 10, "guidance_scale": 1.0, "batch_size": 32},
        "judge": {"segmenter": "unet"},
        "segmenters": {"unet": {}},
        "training_sets": {"real": {}},
        "segment": {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3, "seeds": [0]},
        "audit": {"permutations": 200, "membership": MEMBERSHIP},
    }
    return parse(Params, values)


def table(found: dict[int, dict[str, dict[str, Any]]]) -> list[str]:
    """Return the rows of a Markdown table."""
    lines = ["| generator | seed | score | AUC | found at 5 % | found at 1 % |", "|---|---|---|---|---|---|"]
    for seed, cases in found.items():
        for name, record in cases.items():
            for attack in record["attacks"]:
                auc = f"{attack['auc']:.2f} [{attack['low']:.2f}, {attack['high']:.2f}]"
                rates = [f"{one['share']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" for one in attack["found"][:2]]
                lines.append(f"| {name} | {seed} | `{attack['score']}` | {auc} | {' | '.join(rates)} |")
    return lines


if __name__ == "__main__":
    main()
