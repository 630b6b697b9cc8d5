"""Siamese-Diffusion (Qiu et al., CVPR 2025): a mask branch learns from an image branch that shares its ControlNet.

Mask and image pass through the same Dense Hint Input and ControlNet as two hints of one noisy latent; the image branch
decodes with a frozen copy of the decoder, and the mask branch is drawn towards its prediction.
"""

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core.device import to_device
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import at_least_float32
from pipeline.methods.generators._control import ControlledDiffusion, control_network
from pipeline.methods.generators._focused_loss import WeightedError
from pipeline.methods.generators._siamese_params import Params
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch, sample_noise
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.split_unet import Encoded, UNetDecoder, control, encode

VERSION = 1  # raised when results change
STEPS = 1000  # of the noise schedule


def build(params: Params, model: StableDiffusion, spec: DatasetSpec) -> ControlledDiffusion:
    """Build the generator with new control weights over a base model."""
    network = control_network(model, params.hint, params.start)
    objective = SiameseObjective(params, model, network, spec.num_classes)
    return ControlledDiffusion(model, spec, objective, network, objective.hint)


class SiameseObjective(nn.Module):
    """w_m L_m + L_i + w_c L_c + w_a L_m' (Qiu et al. 2025, eq. 6 and 13), each a mean over the full batch.

    `progress` is k / N with k completed optimiser steps of N. Trained: ControlNet with its hint input, up blocks and
    output of the U-Net. L_i reaches the ControlNet through the image hint only; nothing but L_m, L_c and L_m' trains
    the decoder.
    """

    def __init__(self, params: Params, model: StableDiffusion, network: ControlNetModel, num_classes: int) -> None:
        super().__init__()
        self.params, self.schedule, self.hint = params, model.schedule, params.conditions(num_classes)
        self.network, self.error = network, WeightedError.of(params, model.schedule)
        self.decoder = UNetDecoder(model.unet).requires_grad_(True)
        self.frozen = [model]  # in a list: its weights are neither trained nor saved with the objective
        self.fixed_sizes = False  # whether all passes of online augmentation take equally many samples, for compilation

    def forward(self, batch: LatentBatch, progress: float) -> dict[str, Tensor]:
        latents, noise, t = sample_noise(self.frozen[0], batch)
        hints = torch.cat([self.hint(batch.mask, batch.image), batch.image])
        return self.losses(latents, noise, t, batch.text, hints, progress, batch.mask)

    def losses(
        self,
        latents: Tensor,
        noise: Tensor,
        t: Tensor,
        text: Tensor,
        hints: Tensor,
        progress: float,
        masks: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the named losses; `hints` [2B, 3, H, W] are all mask hints, then all image hints.

        `masks` [B, H, W] are needed with a `lesion_weight`, which the losses of the mask and of the consistency have.
        `t` [B] lies on the CPU: which samples are augmented is known without waiting for the accelerator.
        """
        times = to_device(t, latents.device)
        noisy, target = self.schedule.q_sample(latents, noise, times), self.schedule.target(latents, noise, times)
        encoded = self._encode(noisy, times, text)
        mask_embedding, image_embedding = self.network.controlnet_cond_embedding(hints).chunk(2)
        control_mask = control(self.network, noisy, times, text, mask_embedding)
        control_image = control(self.network, noisy, times, text, image_embedding)
        w_i = progress if self.params.w_i == "linear" else self.params.w_i
        control_mix = [m.detach() + w_i * i for m, i in zip(control_mask, control_image, strict=True)]
        predicted_mask = at_least_float32(self.decoder(encoded, control_mask, text))
        predicted_mix = at_least_float32(self.decoder(encoded, control_mix, text, detached=True))  # theta' of the paper
        losses = {
            "mask": self.params.w_m * self.error(predicted_mask, target, times, masks),
            "image": self.error(predicted_mix, target, times),
            "consistency": self.params.w_c * self.error(predicted_mask, predicted_mix.detach(), times, masks),
        }
        if progress > self.params.k_tau and self.params.w_a > 0:
            selected = (t <= self.params.t_tau).nonzero().flatten()
            inputs = (predicted_mix.detach(), noisy, noise, times, text, mask_embedding)
            losses["augmented"] = self._augmented(selected, *inputs)
        return losses

    def _augmented(self, selected: Tensor, *inputs: Tensor) -> Tensor:
        """Return L_m' on samples with t <= T_tau, noised again from the mix's clean latents, over the full batch."""
        if not len(selected):
            return inputs[0].new_zeros(())
        size = pass_size(len(inputs[0]), self.params.t_tau) if self.fixed_sizes else len(selected)
        sums = [self._augmented_sum(part, size, *inputs) for part in selected.split(size)]
        return self.params.w_a * torch.stack(sums).sum() / len(inputs[0])

    def _augmented_sum(self, selected: Tensor, size: int, *inputs: Tensor) -> Tensor:
        """Return the sum of the selected samples' errors, from a pass of `size`: further ones repeat the selected."""
        index = to_device(selected[torch.arange(size, device=selected.device) % len(selected)], inputs[0].device)
        predicted_mix, noisy, noise, times, text, hint = (values.index_select(0, index) for values in inputs)
        x0 = self.schedule.predict_x0(predicted_mix, noisy, times)
        noisy = self.schedule.q_sample(x0, noise, times)
        residuals = control(self.network, noisy, times, text, hint)
        predicted = at_least_float32(self.decoder(self._encode(noisy, times, text), residuals, text))
        target = self.schedule.target(x0, noise, times)
        per_sample = F.mse_loss(predicted, target, reduction="none").flatten(1).mean(1) * self.error.of_levels(times)
        return per_sample[: len(selected)].sum()

    @torch.no_grad()
    def _encode(self, noisy: Tensor, times: Tensor, text: Tensor) -> Encoded:
        return encode(self.frozen[0].unet, noisy, times, text)


def pass_size(batch: int, t_tau: int) -> int:
    """Return how many samples a pass of online augmentation takes where all take equally many.

    That is the expected number of samples with t <= T_tau in a batch, rounded up: where there are more, another pass
    follows, so that no size but this one is ever compiled.
    """
    return -(-batch * (t_tau + 1) // STEPS)
