"""The forecast of a study in words."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads plug-ins
    from pipeline.cli.forecast import DiskUsage, Forecast, MachineFit
    from pipeline.cli.stage_work import StageWork
    from pipeline.stages.base.params import Base
    from pipeline.stages.finetune.costs import Cost

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def missing_base(base: "Base | None") -> str | None:
    """Return what to say where the base of a study is a local folder or file that is not there; None otherwise."""
    if base is None or base.source == "scratch" or HUB_ID.fullmatch(base.source) or Path(base.source).exists():
        return None
    return (
        f"base.source: {base.source} does not exist yet, so the networks of Stable Diffusion 1.5 were counted; make or"
        " copy the base first for a better estimate"
    )


def lines(result: "Forecast") -> Iterator[str]:
    """Yield the forecast in words."""
    for name, cost in result.costs.items():
        yield f"  {name}: {'nothing to train' if cost is None else _cost(cost)}"
    about = "operations, counted (steps of generate and audit: images; no scoring)"
    yield f"{'stage':<15}{'entry':<24}{'steps':>10}  {about}"
    yield from map(_work, result.work)
    yield f"disk (estimate): {_disk(result.disk)}"
    yield "machines (memory of the heaviest fine-tuning per device; time from assumed arithmetic per second):"
    yield from map(fit_line, result.fits)


def _cost(cost: "Cost") -> str:
    operations = f"{_operations(cost.mean)} per sample of a step"
    if cost.early != cost.late:
        operations += f" ({_operations(cost.early)} early, {_operations(cost.late)} late)"
    return f"{cost.trained:,} parameters trained, {cost.frozen:,} frozen; {operations}"


def _work(work: "StageWork") -> str:
    steps = "?" if work.steps is None else f"{work.steps:,}"
    return f"{work.stage:<15}{work.entry:<24}{steps:>10}  {_operations(work.operations)}"


def _operations(number: float | None) -> str:
    if number is None:
        return "not counted"
    return f"{number / 1e15:.3g} PFLOP" if number >= 1e15 else f"{number / 1e12:.3g} TFLOP"


def _disk(disk: "DiskUsage") -> str:
    images = "images unknown" if disk.images is None else f"{disk.images / 1e9:.2g} GB images"
    return (
        f"{disk.total / 1e9:.3g} GB with DVC's second copy: {disk.base / 1e9:.2g} GB base,"
        f" {disk.generators / 1e9:.2g} GB generators, {disk.checkpoints / 1e9:.2g} GB checkpoints, {images}"
    )


def fit_line(fit: "MachineFit") -> str:
    """Return memory and time of a study on one machine in one line."""
    if fit.needed is None:
        memory = "nothing to fine-tune"
    else:
        verdict = f"NOT POSSIBLE: {fit.conflict}" if fit.conflict else "fits" if fit.fits else "DOES NOT FIT"
        attacks = f" (attacks {fit.attacks / 1e9:.3g} GB)" if fit.attacks is not None else ""
        memory = f"{fit.needed / 1e9:.3g} GB{attacks} of {fit.memory / 1e9:.3g}, {verdict}"
    hours = ", ".join(f"{stage} {_time(value)}" for stage, value in fit.hours.items() if value)
    total = f"all {_time(sum(fit.hours.values()))}" if hours and not fit.uncounted else ""
    uncounted = f"not counted: {', '.join(fit.uncounted)}" if fit.uncounted else ""
    return f"  {fit.machine}: {'; '.join(filter(None, [memory, hours, total, uncounted]))}"


def _time(hours: float) -> str:
    for unit, size in (("h", 1.0), ("min", 1 / 60)):
        if hours >= size:
            return f"{hours / size:.2g} {unit}"
    return f"{max(hours * 3600, 1):.0f} s"
