"""T2I-Adapter (Mou et al. 2023): a small network's features of the mask, added to the encoder of a frozen U-Net.

The adapter is diffusers' full adapter. Nothing of the base is trained, and timesteps are drawn evenly; the cubic draw
that the paper has as an option is left out.
"""

from typing import cast

from diffusers import ControlNetModel, T2IAdapter
from torch import Tensor, nn

from pipeline.core.contracts import Sampling
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import at_least_float32
from pipeline.methods.generators._control import ControlledDiffusion, sample_noise_on_device
from pipeline.methods.generators._focused_loss import WeightedError
from pipeline.methods.generators._sampling import AdaptedDenoisingNetworks, DenoisingNetworks
from pipeline.methods.generators._t2i_adapter_params import Params
from pipeline.networks.stable_diffusion.acceleration import accelerate
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder, encode, no_control
from pipeline.stages.finetune.params import Finetune

VERSION = 1  # raised when results change


def build(params: Params, model: StableDiffusion, spec: DatasetSpec) -> "AdaptedDiffusion":
    """Build the generator with a new adapter over a base model."""
    network = adapter(tuple(model.unet.config["block_out_channels"]), model.factor)
    objective = AdapterObjective(params, model, network, spec.num_classes)
    return AdaptedDiffusion(model, spec, objective, cast(ControlNetModel, network), objective.hint)


def adapter(channels: tuple[int, ...], factor: int) -> T2IAdapter:
    """Build one block of two residual layers per level of the U-Net, after a pixel unshuffle by `factor`."""
    return T2IAdapter(channels=list(channels), num_res_blocks=2, downscale_factor=factor, adapter_type="full_adapter")


class AdapterObjective(nn.Module):
    """Mean squared error of the prediction with the adapter's features (Mou et al. 2023, eq. 5)."""

    def __init__(self, params: Params, model: StableDiffusion, network: T2IAdapter, num_classes: int) -> None:
        super().__init__()
        self.schedule, self.network, self.hint = model.schedule, network, params.conditions(num_classes)
        self.decoder = UNetDecoder(model.unet).requires_grad_(False)
        self.error = WeightedError.of(params, model.schedule)
        self.frozen = [model]  # in a list: its weights are neither trained nor saved with the objective

    def forward(self, batch: LatentBatch, progress: float) -> dict[str, Tensor]:
        latents, noise, t = sample_noise_on_device(self.frozen[0], batch)
        noisy = self.schedule.q_sample(latents, noise, t)
        features = self.network(self.hint(batch.mask, batch.image))
        encoded = encode(self.frozen[0].unet, noisy, t, batch.text, features)
        predicted = at_least_float32(self.decoder(encoded, no_control(encoded), batch.text))
        target = self.schedule.target(latents, noise, t)
        return {"mask": self.error(predicted, target, t, batch.mask)}


class AdaptedDiffusion(ControlledDiffusion):
    """A frozen base model with an adapter."""

    def prepare(self, settings: Finetune) -> None:
        """Set the switches of the base; the small adapter has no LoRA, compilation or recomputation."""
        plain = {"lora_rank": None, "compile": False, "gradient_checkpointing": False}
        accelerate(self.model.unet, self.network, self.objective, settings.model_copy(update=plain))
        cast(AdapterObjective, self.objective).decoder.recompute = settings.gradient_checkpointing

    def embed(self, hints: Tensor) -> list[Tensor]:
        """Return the adapter's features, one [B, C, h, w] per level; they do not depend on the noisy latents."""
        return self.network(hints)  # type: ignore[call-arg]

    def networks(self, settings: Sampling) -> DenoisingNetworks:
        """Return the networks of a denoising step."""
        return AdaptedDenoisingNetworks(self.model.unet, self.decoder, settings.compile, settings.control_scale)

    def _trained(self) -> dict[str, nn.Module]:
        return {"adapter": self.network}
