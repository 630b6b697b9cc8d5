"""What is checked at which size: Stable Diffusion 1.5 at 384 pixels on GPUs, or a toy of its shape on a CPU."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # here, so that it is loaded once for all lines
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.gpu_check.processes import FailedError
from pipeline.core import plugins
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.networks.stable_diffusion import acceleration, sd15
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Autoencoder, Denoiser
from pipeline.stages.finetune.finetune import recipe
from pipeline.stages.finetune.params import Finetune
from pipeline.training.callbacks import LossRow, Monitoring
from pipeline.training.loop import fit

CONFIGS = Path(__file__).parents[2] / "configs"
RATES: dict[str, Any] = {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3}


@dataclass(frozen=True)
class Scale:
    """The size of everything; a toy runs on the CPU, and what it measures says nothing."""

    toy: bool
    batch: int  # global batch of all lines but those of speed

    @classmethod
    def of(cls, toy: bool, batch: int | None = None) -> "Scale":
        """Return the scale; a batch that is not given is 24, of a toy 4."""
        return cls(toy, batch or (4 if toy else 24))

    @property
    def pixels(self) -> int:
        """Side of the images."""
        return 16 if self.toy else 384

    @property
    def batches(self) -> tuple[int, ...]:
        """The global batches whose speed is measured: 6 and 24, none above the batch of the other lines."""
        return tuple(batch for batch in (6, 24) if batch <= self.batch) or (self.batch,)

    def settings(self, **changes: Any) -> Finetune:
        """Return the paper's settings in bf16 with this global batch."""
        paper: dict[str, Any] = {"max_steps": 2, "global_batch": self.batch, "learning_rate": 1e-5}
        return Finetune(**{**paper, "precision": "bf16", **changes})

    def pairs(self) -> Pairs:
        """Return noise with masks, two batches of it."""
        count, rng = 2 * self.batch, torch.Generator().manual_seed(0)
        image = torch.randint(0, 256, (count, 3, self.pixels, self.pixels), dtype=torch.uint8, generator=rng)
        ids = tuple(map(str, range(count)))
        return Pairs(image, (image[:, 0] > 127).to(torch.uint8), ("A photo of a polyp.",) * count, ids)

    def base(self, device: torch.device, keep: Path | None = None) -> StableDiffusion:
        """Return a base with random weights, equal in all processes."""
        torch.manual_seed(0)
        parts = _toy_parts() if self.toy else _full_parts(device)
        for part in (parts[0], parts[1], parts[3]):
            part.to(device).requires_grad_(False).eval()
        return StableDiffusion(*parts, keep=keep)

    def generator(self, method: str, settings: Finetune, device: torch.device, **own: Any) -> Any:
        """Return a generator over this base, ready for training."""
        module = plugins.load("generators", method)
        spec = DatasetSpec(name="check", size=self.pixels)
        generator = module.build(module.Params(**own), self.base(device), spec)
        generator.objective.to(device)
        generator.prepare(settings)
        return generator

    @contextmanager
    def compilation(self) -> Iterator[None]:
        """Within, torch's limit of recompilation is an error, where it would warn and go on uncompiled.

        A toy traces one block, the control's first, and makes no kernels of it: all would take minutes on a CPU.
        """
        with ExitStack() as stack:
            stack.enter_context(torch._dynamo.config.patch(fail_on_recompile_limit_hit=True))
            if self.toy:
                blocks, plain = acceleration.blocks_to_compile, torch.nn.Module.compile
                stack.enter_context(patch.object(acceleration, "blocks_to_compile", lambda *nets: blocks(*nets)[-4:-3]))
                traced = partialmethod(plain, backend="eager")
                stack.enter_context(patch.object(torch.nn.Module, "compile", traced))
            yield


def _toy_parts() -> tuple[Any, ...]:
    vae = tiny.autoencoder(Autoencoder(channels=(16, 16), crop=8, **RATES), 16)
    unet = tiny.denoiser(Denoiser(channels=(32, 32), text_width=16, **RATES), 4, 8)
    return vae, tiny.text_tower(16), tiny.tokenizer(), unet, tiny.scheduler("epsilon")


def _full_parts(device: torch.device) -> tuple[Any, ...]:
    with device:
        vae, unet = AutoencoderKL(**sd15.VAE), UNet2DConditionModel(**sd15.UNET)
        tower = CLIPTextModel(CLIPTextConfig(**sd15.TEXT))
    return vae, tower, sd15.tokenizer(), unet, sd15.scheduler()


def train(
    scale: Scale,
    runtime: Runtime,
    settings: Finetune,
    folder: Path | None = None,
    monitoring: Any = None,
    **changes: Any,
) -> list[LossRow]:
    """Train siamese by the real loop, with these changes of the recipe; return the losses. Raises FailedError."""
    generator = scale.generator("siamese", settings, runtime.device)
    batches = generator.batches(scale.pairs(), settings, "check")
    watched = Monitoring() if monitoring is None else Monitoring(monitoring(generator))
    wanted: Recipe = replace(recipe(settings), **{"checkpoint_every": None, **changes})
    rows = fit(generator.objective, batches, wanted, runtime, folder, monitoring=watched)
    if len(rows) != wanted.max_steps:
        raise FailedError(f"{len(rows)} rows of losses after {wanted.max_steps} steps")
    return rows
