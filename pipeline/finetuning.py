"""Fine-tuning of one generator entry on the training pairs."""

from pathlib import Path

import torch

from pipeline import files, paths, plugins, seeding, tracking
from pipeline.contracts import Generator, Untrained
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.generators._control import recipe
from pipeline.networks.stable_diffusion import StableDiffusion
from pipeline.params import Params
from pipeline.runtime import Runtime
from pipeline.training import fit, snapshot


def finetune(params: Params, generator: str) -> None:
    """Publishes a fine-tuned generator; a killed run resumes, entries that differ in generation only share the work."""
    runtime = Runtime.start(params.threads)
    train = ImageSet.open(paths.real(params.study)).split("train")
    print_of = fingerprint(params, generator, train)
    work = paths.work("finetune", print_of)
    folder = work / "generator"
    if not (folder / "manifest.json").is_file():
        _train(params, generator, train, runtime, work)
        if runtime.is_main:
            files.write_json(folder / "manifest.json", {"fingerprint": print_of, "method": method(params, generator)})
    if runtime.is_main:
        files.publish(folder, paths.generator(params.study, generator))
    runtime.barrier()


def fingerprint(params: Params, generator: str, train: ImageSet) -> str:
    """Identifies everything that the trained weights depend on."""
    name = method(params, generator)
    own = plugins.read_params("generators", name, params.generators[generator].own, f"generators.{generator}")
    base = files.tree_sha256(paths.base(params.study))
    version = plugins.load("generators", name).VERSION
    return files.fingerprint(name, version, own, params.finetune, params.seed, params.threads, base, train.digest)


def method(params: Params, generator: str) -> str:
    """The plug-in of an entry."""
    return params.generators[generator].method or generator


def build(params: Params, generator: str, spec: DatasetSpec, runtime: Runtime) -> Generator | Untrained:
    """The generator of an entry over the study's base, before training."""
    name = method(params, generator)
    own = plugins.read_params("generators", name, params.generators[generator].own, f"generators.{generator}")
    model = StableDiffusion.open(paths.base(params.study)).to(runtime.device)
    seeding.seed_everything(params.seed, "control", name)
    return plugins.load("generators", name).build(own, model, spec)


def _train(params: Params, generator: str, train: ImageSet, runtime: Runtime, work: Path) -> None:
    model = build(params, generator, train.spec, runtime)
    if isinstance(model, Untrained):
        model.show(train)
        if runtime.is_main:
            model.save(work / "generator")
        return
    batches = model.batches(Pairs.read(train), params.finetune, f"{params.seed}/finetune")
    rows = fit(model.objective, batches, recipe(params.finetune), runtime, work, f"finetune {generator}")
    if runtime.is_main:
        model.save(work / "generator")
        for step in params.finetune.snapshots:
            weights = torch.load(snapshot(work, step), map_location=runtime.device, weights_only=True)
            model.objective.load_state_dict(weights, strict=False)
            model.save(work / "generator" / "snapshots" / f"{step:06d}")
        table = [{"step": step, **row} for step, row in enumerate(rows)]
        tracking.write_table(work / "generator" / "losses.csv", table, sorted({c for row in table for c in row}))
    runtime.barrier()
