"""Adaptively Distilled ControlNet (ADC; Qiu, Zhou and Guo, MICCAI 2025): a teacher that sees the image as well.

Student and teacher denoise the same latents. The student sees the mask; the teacher adds the control of the image, by a
ControlNet and a decoder of its own, to the control of the mask, and the student is drawn towards its prediction. Only
the student draws images and is published.
"""

import copy
from pathlib import Path

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import at_least_float32
from pipeline.methods.generators._adc_params import Params
from pipeline.methods.generators._control import ControlledDiffusion, control_network, sample_noise_on_device
from pipeline.methods.generators._distillation import distillation
from pipeline.methods.generators._focused_loss import WeightedError
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder, control, encode

VERSION = 1  # raised when results change


def build(params: Params, model: StableDiffusion, spec: DatasetSpec) -> "DistilledDiffusion":
    """Build the generator with new control weights over a base model."""
    student, teacher = (control_network(model, params.hint, params.start) for _ in range(2))
    objective = DistillationObjective(params, model, student, teacher, spec.num_classes)
    return DistilledDiffusion(model, spec, objective, student, objective.hint)


class DistillationObjective(nn.Module):
    """L_S + w_t L_T + w_d L_D, each a mean over the full batch (Qiu et al. 2025, eq. 4).

    L_S and L_T are the mean squared errors of student and teacher, L_D the weighted distance of the student to the
    teacher, whose gradient is stopped. All four networks start from the base. L_T reaches the student's ControlNet
    through the sum of both controls, unless `detach_mask` stops it there. The distance is one of predictions as the
    base makes them: on a base that predicts clean latents, it is not a distance of noises.
    """

    def __init__(
        self,
        params: Params,
        model: StableDiffusion,
        student: ControlNetModel,
        teacher: ControlNetModel,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.params, self.schedule, self.hint = params, model.schedule, params.conditions(num_classes)
        self.network, self.teacher_network = student, teacher
        self.error = WeightedError.of(params, model.schedule)
        self.decoder = UNetDecoder(model.unet).requires_grad_(True)
        self.teacher_decoder = copy.deepcopy(self.decoder)
        self.frozen = [model]  # in a list: its weights are neither trained nor saved with the objective

    def forward(self, batch: LatentBatch, progress: float) -> dict[str, Tensor]:
        latents, noise, t = sample_noise_on_device(self.frozen[0], batch)
        return self.losses(latents, noise, t, batch.text, self.hint(batch.mask, batch.image), batch.image, batch.mask)

    def losses(
        self, latents: Tensor, noise: Tensor, t: Tensor, text: Tensor, hints: Tensor, images: Tensor, masks: Tensor
    ) -> dict[str, Tensor]:
        """Return the named losses; `hints` and `images` are [B, 3, H, W], `masks` [B, H, W] label maps."""
        params = self.params
        noisy, target = self.schedule.q_sample(latents, noise, t), self.schedule.target(latents, noise, t)
        with torch.no_grad():
            encoded = encode(self.frozen[0].unet, noisy, t, text)
        of_mask, of_image = (
            control(network, noisy, t, text, network.controlnet_cond_embedding(hint))
            for network, hint in ((self.network, hints), (self.teacher_network, images))
        )
        shared = [residual.detach() for residual in of_mask] if params.detach_mask else of_mask
        of_both = [mask + params.w_i * image for mask, image in zip(shared, of_image, strict=True)]
        student = at_least_float32(self.decoder(encoded, of_mask, text))
        teacher = at_least_float32(self.teacher_decoder(encoded, of_both, text))
        return {
            "mask": self.error(student, target, t, masks),
            "mask_image": params.w_t * self.error(teacher, target, t, masks),
            "distillation": params.w_d
            * distillation(student, teacher.detach(), masks, params.weighting, self.error.of_levels(t)),
        }

    def drop_teacher(self) -> None:
        """Free the teacher's weights. The losses cannot be computed any more."""
        del self.teacher_network, self.teacher_decoder


class DistilledDiffusion(ControlledDiffusion):
    """A base model with the student's ControlNet and decoder; its objective holds the teacher's too."""

    objective: DistillationObjective

    def load(self, folder: Path) -> None:
        """Load the student that `save` wrote and drop the teacher. Raises UserError where the folder does not fit."""
        super().load(folder)
        if hasattr(self.objective, "teacher_network"):
            self.objective.drop_teacher()
