"""ControlNet on masks alone (Zhang et al. 2023), the baseline (M): stock hint input, loss of the mask branch."""

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import at_least_float32
from pipeline.methods.generators._control import (
    ControlledDiffusion,
    control_network,
    sample_noise_on_device,
)
from pipeline.methods.generators._controlnet_params import Params
from pipeline.methods.generators._focused_loss import WeightedError
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder, control, encode

VERSION = 1  # raised when results change


def build(params: Params, model: StableDiffusion, spec: DatasetSpec) -> ControlledDiffusion:
    """Build the generator with new control weights over a base model."""
    network = control_network(model, params.hint, params.start)
    objective = ControlNetObjective(params, model, network, spec.num_classes)
    return ControlledDiffusion(model, spec, objective, network, objective.hint)


class ControlNetObjective(nn.Module):
    """Mean squared error of the prediction under the mask's control (Zhang et al. 2023, eq. 5)."""

    def __init__(self, params: Params, model: StableDiffusion, network: ControlNetModel, num_classes: int) -> None:
        super().__init__()
        self.schedule, self.network, self.hint = model.schedule, network, params.conditions(num_classes)
        self.decoder = UNetDecoder(model.unet).requires_grad_(params.train_decoder)
        self.error = WeightedError.of(params, model.schedule)
        self.frozen = [model]  # in a list: its weights are neither trained nor saved with the objective

    def forward(self, batch: LatentBatch, progress: float) -> dict[str, Tensor]:
        latents, noise, t = sample_noise_on_device(self.frozen[0], batch)
        noisy = self.schedule.q_sample(latents, noise, t)
        hint = self.network.controlnet_cond_embedding(self.hint(batch.mask, batch.image))
        with torch.no_grad():
            encoded = encode(self.frozen[0].unet, noisy, t, batch.text)
        residuals = control(self.network, noisy, t, batch.text, hint)
        predicted = at_least_float32(self.decoder(encoded, residuals, batch.text))
        target = self.schedule.target(latents, noise, t)
        return {"mask": self.error(predicted, target, t, batch.mask)}
