"""What guides the drawing of an entry: the empty prompt, or an earlier snapshot of the generator."""

from pathlib import Path

from pipeline.core import files, paths
from pipeline.core.contracts import Generator
from pipeline.core.runtime import Runtime
from pipeline.data.sample import DatasetSpec
from pipeline.stages.finetune.generator import build
from pipeline.stages.finetune.params import GeneratorEntry


def guidance_interval(entry: GeneratorEntry) -> tuple[float, float]:
    """Return the shares of the training timesteps between which guidance acts."""
    return (0.0, 1.0) if entry.guidance is None else entry.guidance.interval


def weaker_weights(study: str, name: str, entry: GeneratorEntry) -> str | None:
    """Return the hash of the snapshot that guides; None where none does."""
    folder = _folder(study, name, entry)
    return None if folder is None else files.tree_sha256(folder)


def weaker_generator(
    study: str, seed: int, name: str, entry: GeneratorEntry, spec: DatasetSpec, runtime: Runtime
) -> Generator | None:
    """Load the snapshot that guides; None where none does. Raises UserError where it is missing."""
    folder = _folder(study, name, entry)
    if folder is None:
        return None
    model = build(study, seed, name, entry, spec, runtime)
    assert isinstance(model, Generator)  # finetune.checks: it is trained
    model.load(folder)
    model.objective.to(runtime.device)
    return model


def _folder(study: str, name: str, entry: GeneratorEntry) -> Path | None:
    if entry.guidance is None or entry.guidance.snapshot is None:
        return None
    return paths.generator(study, name) / "snapshots" / f"{entry.guidance.snapshot:06d}"
