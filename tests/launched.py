"""Tasks that tests run in several processes over gloo, forked from one server that has imported what they need."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # every optimiser loads it, which takes seconds: here once for all processes
from torch import Tensor

from pipeline.core.recipes import Recipe
from pipeline.core.runtime import TIMEOUT, Runtime
from pipeline.data.sample import DatasetSpec
from pipeline.methods.generators import siamese
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.networks.stable_diffusion import moments
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch, LatentBatches
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.training.loop import fit
from pipeline.training.sharding import build_strategy
from tests.patience import HUNG
from tests.toy_training import Named, pairs, plain


def launch(
    world: int,
    task: Callable[..., Any],
    *arguments: Any,
    sharding: str = "none",
    before: Callable[[], None] | None = None,
) -> list[Any]:
    """What each of `world` processes returns; raises where one fails. Each calls `before` before it joins."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.launched"])
    port = free_port()
    with context.Pool(world) as pool:
        jobs = [
            pool.apply_async(
                _joined, (rank, world, port, sharding, before, task, arguments), error_callback=lambda _: None
            )
            for rank in range(world)
        ]
        return [job.get(timeout=HUNG) for job in jobs]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _joined(
    rank: int,
    world: int,
    port: int,
    sharding: str,
    before: Callable[[], None] | None,
    task: Callable[..., Any],
    arguments: Any,
) -> Any:
    if world > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    if sharding == "fsdp2":
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    if before is not None:
        before()
    if world == 1:
        return task(Runtime.alone(1), *arguments)
    runtime = Runtime.start(1)
    assert (runtime.rank, runtime.world, runtime.sharding) == (rank, world, sharding)
    return task(runtime, *arguments)


def siamese_gradients(runtime: Runtime, base: Path, micro_batch: int | None) -> Named:
    """The averaged gradients of one step of a global batch of eight, in float64, with online augmentation."""
    generator, batches = double_siamese(base)
    recipe = Recipe(1, 1e-3)
    strategy = build_strategy(generator.objective, recipe, runtime)
    share = batches.batch(0, runtime.rank, runtime.world)
    size = micro_batch or len(share)
    for start in range(0, len(share), size):
        part = share.part(start, start + size)
        with strategy.no_sync(start + size < len(share)):
            losses = strategy.wrapped(part, 0.9)
            assert set(losses) == {"mask", "image", "consistency", "augmented"}
            strategy.backward(sum(losses.values()) * len(part) / len(share))
    gradients = {name: p.grad for name, p in generator.objective.named_parameters() if p.requires_grad}
    assert all(gradient is not None for gradient in gradients.values())
    return {name: as_plain(gradient) for name, gradient in gradients.items()}


def train_siamese(runtime: Runtime, base: Path, folder: Path | None, steps: int, channels_last: bool = False) -> Named:
    """Trained weights after a few steps, all of it in float64."""
    generator, batches = double_siamese(base)
    generator.prepare(SETTINGS.model_copy(update={"channels_last": channels_last}))
    recipe = Recipe(steps, 1e-3, max_grad_norm=1.0, checkpoint_every=1, schedule_steps=2)
    fit(generator.objective, batches, recipe, runtime, folder)
    return plain(generator.objective)


def double_siamese(base: Path) -> tuple[ControlledDiffusion, Any]:
    """A Siamese-Diffusion whose U-Net, control and batches are in float64."""
    torch.manual_seed(1)
    model = StableDiffusion.open(base)
    model.unet.double()
    generator = siamese.build(siamese.Params(start=0.2), model, DatasetSpec(name="toy", size=16))
    generator.objective.double()
    return generator, Doubled(generator.batches(pairs(16, 10), SETTINGS, "t"))


class Doubled:
    """Batches with the numbers of others, in float64."""

    def __init__(self, batches: LatentBatches) -> None:
        self.batches, self.seed, self.batch_size = batches, batches.seed, batches.batch_size

    def batch(self, step: int, rank: int, world: int) -> LatentBatch:
        return double(self.batches.batch(step, rank, world).to(torch.device("cpu")))


def double(batch: LatentBatch) -> LatentBatch:
    from dataclasses import fields, replace

    floats = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(
        batch, **{k: v.double() for k, v in floats.items() if isinstance(v, Tensor) and v.is_floating_point()}
    )


def wait_for_a_slow_main_process(runtime: Runtime, seconds: float) -> tuple[str, float]:
    """What a process hears from the main one, which works alone for some seconds, and their mean rank."""
    if runtime.is_main:
        time.sleep(seconds)
    runtime.barrier()
    told = runtime.broadcast("done" if runtime.is_main else "")
    return told, float(runtime.mean(torch.tensor(float(runtime.rank))))


def impatient_library() -> None:
    """As if the ten minutes of nccl were one second."""
    from datetime import timedelta

    torch.distributed.distributed_c10d.default_pg_timeout = timedelta(seconds=1)


def impatient_user() -> None:
    os.environ[TIMEOUT] = "77"


def patience(runtime: Runtime) -> float:
    """Seconds that a process waits for the others."""
    group = torch.distributed.distributed_c10d._get_default_group()
    return group._get_backend(runtime.device).options._timeout.total_seconds()


def keep_moments(runtime: Runtime, base: Path, folder: Path) -> tuple[Tensor, int]:
    """The moments of twenty images, in parts of eight, and how many images this process has encoded."""
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    moments.PART, seen = 8, []
    encode = StableDiffusion.moments
    StableDiffusion.moments = lambda self, image: seen.append(len(image)) or encode(self, image)
    runtime.barrier()
    found = moments.moments_of(StableDiffusion.open(base, keep=folder / "kept"), pairs(16, 20).image, flipped=False)
    return found, sum(seen)


def as_plain(value: Any) -> Tensor:
    return value.full_tensor() if hasattr(value, "full_tensor") else value.detach().clone()


def settings() -> Any:
    from pipeline.stages.finetune.params import Finetune

    return Finetune(max_steps=3, global_batch=8, learning_rate=1e-3, flip=True)


SETTINGS = settings()
