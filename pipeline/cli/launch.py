"""Start a stage on the hardware that is there: `python -m pipeline.cli.launch stages/finetune.py --generator NAME`.

One process per visible GPU; without a GPU as many on the CPU as the stage takes there. LAUNCH, a file of
configs/accelerate, or the launch of PRESET overrides. None of it belongs to the study: finished stages stay finished.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import gpus
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml
from pipeline.stages import hardware
from pipeline.stages.base.params import Base
from pipeline.stages.finetune import presets
from pipeline.study import load_params

FOLDER = Path("configs/accelerate")
VARIABLE = "LAUNCH"
ON_CPU = {"segment": "cpu2", "confirm": "cpu2"}  # two processes of one thread each; the other stages take one process
OF_BASE = ("finetune", "generate", "snapshots")  # stages that run the base itself
WRONG = 2  # exit status


@dataclass(frozen=True)
class Launch:
    """How the processes of a stage are started."""

    config: str  # a file of configs/accelerate, without its ending
    why: str
    processes: int | None = None  # None: as many as the file says
    alone: bool = False  # one process on the CPU, which needs no launcher

    def command(self, stage: Sequence[str]) -> list[str]:
        """Return the arguments of Python; `accelerate launch` takes seconds to load and is left out where it can be."""
        if self.alone:
            return [*stage]
        count = [] if self.processes is None else ["--num_processes", str(self.processes)]
        file = (FOLDER / f"{self.config}.yaml").as_posix()
        return ["-m", "accelerate.commands.launch", "--quiet", "--config_file", file, *count, *stage]

    def environment(self) -> dict[str, str]:
        """Return what the launcher would put into the environment."""
        return {"ACCELERATE_USE_CPU": "true"} if self.alone else {}


def choose(
    stage: str, study: str, base: Base | None, batch: int | None, environment: Mapping[str, str] = os.environ
) -> Launch:
    """Choose the launch of a stage of a study with a base and a global batch of fine-tuning, if it has them.

    Raises UserError where the launch that was asked for is impossible, or where a large base would run on a CPU.
    """
    name = environment.get(VARIABLE)
    preset = environment.get(presets.VARIABLE)
    if name or preset:
        name = name or presets.load(preset or "").launch
        said = f"{VARIABLE}={name}" if environment.get(VARIABLE) else f"{presets.VARIABLE}={preset}"
        config = read_launch(name, said)
        _check_gpus(config, said)
        chosen = Launch(name, f"{_processes(int(config['num_processes']))}, as {said} says")
        reason = f"{said} names the CPU" if config.get("use_cpu") else None
    else:
        chosen = _found(stage, batch if stage == "finetune" else None)
        reason = hardware.NO_GPU if chosen.config.startswith("cpu") else None
    if reason and base is not None and stage in OF_BASE:
        hardware.refuse_large(base, study, reason)
    return chosen


def read_launch(name: str, said: str) -> dict[str, Any]:
    """Return a file of configs/accelerate. Raises UserError listing the files there are."""
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise UserError(
            f"{said}: there is no file {path}; the available ones are: {there}; without {VARIABLE}, the visible GPUs"
            " are used"
        )
    return read_yaml(path)


def share(found: int, batch: int | None) -> int:
    """Return how many of the GPUs found can share a global batch evenly (None: every one has work of its own)."""
    return max(n for n in range(1, found + 1) if batch is None or batch % n == 0)


def _found(stage: str, batch: int | None) -> Launch:
    """Return the launch on the visible GPUs, or on the CPU where there is none."""
    found = gpus.count_visible()
    if found == 0:
        config = ON_CPU.get(stage, "cpu")
        alone = config == "cpu"
        return Launch(config, f"{_processes(1 if alone else 2)} on the CPU: {hardware.NO_GPU}", alone=alone)
    count = share(found, batch)
    where = "on the visible GPU" if found == 1 else f"on {count} of {found} visible GPUs, one each"
    uneven = f"; {found} cannot share finetune.global_batch {batch} evenly" if count < found else ""
    return Launch("gpu1" if count == 1 else "gpu8", f"{_processes(count)} {where}{uneven}", count)


def _check_gpus(config: Mapping[str, Any], said: str) -> None:
    """Raise UserError where a launch wants more GPUs of this machine than torch sees."""
    if config.get("use_cpu"):
        return
    wanted, found = int(config["num_processes"]) // int(config.get("num_machines", 1)), gpus.count_visible()
    if wanted > found:
        raise UserError(
            f"{said} starts {wanted} processes on GPUs, but torch sees {found}; without it, the visible GPUs are used"
        )


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count} processes"


def main(arguments: list[str]) -> None:
    """Become the launcher of the stage whose script the first argument names."""
    stage = Path(arguments[0]).stem
    try:
        params = load_params()
        launch = choose(stage, params.study, params.base, params.finetune and params.finetune.global_batch)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(WRONG) from None
    sys.stdout.write(f"{stage}: {launch.why}\n")
    sys.stdout.flush()
    os.environ.update(launch.environment())
    os.execv(sys.executable, [sys.executable, *launch.command(arguments)])


if __name__ == "__main__":
    main(sys.argv[1:])
