"""Entries of the section `generators`: their parameters, their random streams, and the networks before training.

Nothing here trains, so that stages that only draw images import no training loop.
"""

from pipeline.core import paths, plugins, seeding
from pipeline.core.contracts import Generator, ImportedImages, TrainingFreeGenerator
from pipeline.core.runtime import Runtime
from pipeline.core.section import Section
from pipeline.data.sample import DatasetSpec
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.finetune.params import GeneratorEntry


def options(name: str, entry: GeneratorEntry) -> Section:
    """Return the checked parameters of an entry's plug-in. Raises UserError naming a fault by its dotted path."""
    return plugins.read_params("generators", entry.method_of(name), entry.options, f"generators.{name}")


def stream(seed: int, entry: GeneratorEntry) -> int | str:
    """Return the name of an entry's random streams: the study's seed, with the entry's own where it has one."""
    return f"{seed}.{entry.seed}" if entry.seed else seed


def build(
    study: str, seed: int, name: str, entry: GeneratorEntry, spec: DatasetSpec, runtime: Runtime
) -> Generator | TrainingFreeGenerator | ImportedImages:
    """Build the generator of an entry over the base of a study, with the initial weights of the study's seed.

    A method that uses no base gets none.
    """
    method, params = entry.method_of(name), options(name, entry)
    base = StableDiffusion.open(paths.base(study), keep=paths.WORK / "moments") if entry.uses_base(name) else None
    base = base and base.to(runtime.device)
    seeding.seed_everything(stream(seed, entry), "control", method)
    model = plugins.load("generators", method).build(params, base, spec)
    if base is None:
        model.objective.to(runtime.device)
    return model
