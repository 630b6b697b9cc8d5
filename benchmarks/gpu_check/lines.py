"""The lines of the check, each with how it is run: passed, failed with one line, or not applicable and why."""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.gpu_check import one_process, several_processes, speed
from benchmarks.gpu_check.processes import FailedError, Launch, NotApplicableError, one_line, run, run_here
from benchmarks.gpu_check.scale import CONFIGS, Scale
from pipeline.stages.finetune import presets

METHODS = ("siamese", "controlnet", "mask_image", "t2i_adapter")
SAME_LOSS = 0.02  # by which losses of two layouts may differ in bf16, as a share of the step's largest
SAME_GRADIENT = 1e-4  # of gradients in float32, as a share of their norm
SLOW, IMPATIENT = 4.0, 1.0  # seconds that the main process works alone, and that the library would wait


@dataclass(frozen=True)
class Check:
    """The machine and the size of a check; each line has an empty folder of its own."""

    scale: Scale
    processes: int
    folder: Path

    def alone(self, task: Callable[..., Any], *arguments: Any) -> Any:
        """Run a task in one process of its own, a toy in this one; return its numbers."""
        return run_here(task, *arguments) if self.scale.toy else run(Launch(), task, *arguments)[0]

    def together(self, task: Callable[..., Any], *arguments: Any, **how: Any) -> list[Any]:
        """Run a task in all processes. Raises NotApplicableError where there is one."""
        if self.processes < 2:
            raise NotApplicableError("needs two GPUs; say GPUS=2")
        return run(replace(Launch(self.processes, self.scale.toy), **how), task, *arguments)


@dataclass(frozen=True)
class Outcome:
    """What a line says."""

    line: str
    result: Literal["passed", "failed", "not applicable"]
    reason: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


Line = Callable[[Check], Any]


def all_lines(scale: Scale) -> dict[str, Line]:
    """Return the lines by name, in the order in which they run."""
    one, alone = one_process, _alone
    lines: dict[str, Line] = {
        "steps, eager": alone(one.steps, False),
        "steps, compiled": alone(one.steps, True),
        **{f"preset {name}": alone(one.preset, name) for name in presets.names(CONFIGS / "presets")},
        "resume in another memory format": lambda check: check.alone(one.formats, check.scale, check.folder),
        "resume DDP, FSDP2, DDP": lambda check: _layouts(check, ("none", "fsdp2", "none")),
        "resume DDP, FSDP2, ZeRO-2, DDP": _with_zero2,
        "latents from an empty cache": _latents,
        **{f"no wait for the device, {method}": alone(one.unsynchronised, method) for method in METHODS},
        "a slow main process": _slow,
        "FSDP2 with average, snapshot, picture, validation": _all_at_once,
        "averaged gradients": _gradients,
        "TF32": alone(one.tf32),
        "xformers": alone(one.optional, "xformers", "attention", "xformers"),
        "8-bit Adam": alone(one.optional, "bitsandbytes", "optimizer", "adamw_8bit"),
        "memory against its prediction": alone(speed.memory),
    }
    for batch in scale.batches:
        for compiled in (False, True):
            name = f"speed, batch {batch}, {'compiled' if compiled else 'eager'}"
            lines[name] = alone(speed.samples, batch, compiled)
    return lines | {"images against diffusers' pipeline": alone(speed.images)}


def outcome(name: str, line: Line, check: Check) -> Outcome:
    """Run one line; whatever goes wrong becomes its reason."""
    begin = time.perf_counter()
    try:
        numbers = line(check) or {}
    except NotApplicableError as reason:
        return Outcome(name, "not applicable", str(reason), {}, _since(begin))
    except FailedError as reason:
        return Outcome(name, "failed", str(reason), {}, _since(begin))
    except Exception as error:  # noqa: BLE001  (the check goes on with its next line)
        return Outcome(name, "failed", one_line(error), {}, _since(begin))
    return Outcome(name, "passed", "", numbers, _since(begin))


def _since(begin: float) -> float:
    return round(time.perf_counter() - begin, 1)


def _alone(task: Callable[..., Any], *arguments: Any) -> Line:
    return lambda check: check.alone(task, check.scale, *arguments)


def _layouts(check: Check, layouts: tuple[str, ...]) -> dict[str, Any]:
    """Train one step in each layout, from the checkpoint of the one before; losses must be those of one process."""
    total, go_on = len(layouts), several_processes.go_on
    for step, sharding in enumerate(layouts, start=1):
        rows = check.together(go_on, check.scale, check.folder, step, total, sharding=sharding)[0]
    whole = check.alone(go_on, check.scale, None, total, total)
    for step, (one, several) in enumerate(zip(whole, rows, strict=True)):
        for name, loss in one.items():
            if abs(several[name] - loss) > SAME_LOSS * max(one.values()):
                raise FailedError(f"step {step}: {name} is {several[name]:.4g}, of one process {loss:.4g}")
    return {"steps": total}


def _with_zero2(check: Check) -> dict[str, Any]:
    if importlib.util.find_spec("deepspeed") is None:
        raise NotApplicableError("deepspeed is not installed")
    return _layouts(check, ("none", "fsdp2", "zero2", "none"))


def _latents(check: Check) -> dict[str, Any]:
    answers = check.together(several_processes.encode, check.scale, check.folder)
    counts, sums = zip(*answers, strict=True)
    wanted = len(check.scale.pairs())
    if sum(counts) != wanted or len(set(sums)) != 1:
        raise FailedError(f"{sum(counts)} images encoded of {wanted}, sums {sorted(set(sums))}")
    return {"encoded": list(counts)}


def _slow(check: Check) -> dict[str, Any]:
    means = check.together(several_processes.wait_for_main, SLOW, library_timeout=IMPATIENT)
    if set(means) != {(check.processes - 1) / 2}:
        raise FailedError(f"the processes heard {sorted(set(means))}")
    return {"seconds_late": SLOW, "library_would_wait": IMPATIENT}


def _all_at_once(check: Check) -> dict[str, Any]:
    several_processes.write_val(check.scale, check.folder)
    return check.together(several_processes.all_at_once, check.scale, check.folder, sharding="fsdp2")[0]


def _gradients(check: Check) -> dict[str, Any]:
    several = check.together(several_processes.gradients, check.scale)[0]
    one = check.alone(several_processes.gradients, check.scale)
    difference = several_processes.largest_difference(one, several)
    if difference > SAME_GRADIENT:
        raise FailedError(f"gradients differ by {difference:.2g} of their norm")
    return {"difference": difference}
