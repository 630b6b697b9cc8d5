"""ControlNet on mask and image, the baseline (M+I) that Siamese-Diffusion is compared with.

Stated by Qiu et al. (2025): a ControlNet that is trained with mask and image as control. Not stated: how the two are
joined, and whether the decoder is trained. Here one ControlNet sees both hints of one noisy latent, as in
Siamese-Diffusion; the mask's control and the sum of both controls are trained together, without stopped gradients,
schedule, noise consistency or online augmentation. The paper draws its M+I images with both hints, which the entry's
`control: mask_image` does; without it, images are drawn from the mask alone.
"""

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
from pipeline.methods.generators._focused_loss import WeightedError
from pipeline.methods.generators._mask_image_params import Params
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder, control, encode

VERSION = 1  # raised when results change


def build(params: Params, model: StableDiffusion, spec: DatasetSpec) -> ControlledDiffusion:
    """Build the generator with new control weights over a base model."""
    network = control_network(model, params.hint, params.start)
    objective = MaskImageObjective(params, model, network, spec.num_classes)
    return ControlledDiffusion(model, spec, objective, network, objective.hint)


class MaskImageObjective(nn.Module):
    """Mean squared errors under the mask's control c_m and under c_m + w_i c_i."""

    def __init__(self, params: Params, model: StableDiffusion, network: ControlNetModel, num_classes: int) -> None:
        super().__init__()
        self.w_i, self.schedule, self.network = params.w_i, model.schedule, network
        self.hint = params.conditions(num_classes)
        self.decoder = UNetDecoder(model.unet).requires_grad_(params.train_decoder)
        self.error = WeightedError.of(params, model.schedule)
        self.frozen = [model]  # in a list: its weights are neither trained nor saved with the objective

    def forward(self, batch: LatentBatch, progress: float) -> dict[str, Tensor]:
        latents, noise, t = sample_noise_on_device(self.frozen[0], batch)
        noisy, target = self.schedule.q_sample(latents, noise, t), self.schedule.target(latents, noise, t)
        with torch.no_grad():
            encoded = encode(self.frozen[0].unet, noisy, t, batch.text)
        hints = torch.cat([self.hint(batch.mask, batch.image), batch.image])
        embedded = self.network.controlnet_cond_embedding(hints).chunk(2)
        of_mask, of_image = (control(self.network, noisy, t, batch.text, part) for part in embedded)
        of_both = [mask + self.w_i * image for mask, image in zip(of_mask, of_image, strict=True)]
        predicted = {"mask": of_mask, "mask_image": of_both}
        decoded = {name: at_least_float32(self.decoder(encoded, part, batch.text)) for name, part in predicted.items()}
        return {name: self.error(one, target, t, batch.mask) for name, one in decoded.items()}
