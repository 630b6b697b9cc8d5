"""Learning from images without masks: a segmenter agrees with the moving average of its own weights.

Tarvainen & Valpola (2017), "Mean teachers", with the numbers of HiLab-git/SSL4MIS (train_mean_teacher_2D.py), whose
ramp of 30,000 steps becomes a share of the training. It is a control: what do the same images without masks bring
without any synthesis? Optimiser steps and labelled images stay those of every other arm.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core import seeding
from pipeline.core.contracts import Batch, Segmenter
from pipeline.core.errors import UserError
from pipeline.data.loading import Augment, Pairs, to_unit_range

DECAY = 0.99  # of the average, at most
WEIGHT = 0.1  # of the consistency loss after the ramp
RAMP, OFF = 0.4, 1 / 30  # shares of the training: the weight grows until the first, and is 0 until the second
NOISE, LARGEST_NOISE = 0.1, 0.2  # on the teacher's images: standard deviation, and where it is cut off


class MeanTeacher(nn.Module):
    """A segmenter's objective with a consistency loss on as many unlabelled images as the batch has labelled ones."""

    def __init__(self, segmenter: Segmenter, unlabelled: Pairs, augment: Augment | None, steps: int) -> None:
        super().__init__()
        check(segmenter)
        student: Any = segmenter
        self.supervised, self.student = segmenter.objective, student.network
        self.teacher = with_buffers(copy.deepcopy(student.network))
        self.probabilities = student.probabilities
        self.unlabelled, self.augment, self.steps = unlabelled, augment, steps

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the losses of the labelled images, and `consistency` once it counts."""
        step = round(progress * self.steps)
        self._follow(step)
        losses = self.supervised(batch, progress)
        if step < OFF * self.steps:
            return losses
        images = torch.stack([self._image(stream) for stream in batch.streams]).to(batch.image.device)
        noise = torch.stack([_noise(images.shape[1:], stream) for stream in batch.streams]).to(images.device)
        with torch.no_grad():
            target = self.probabilities(self.teacher(images + noise))
        predicted = self.probabilities(self.student(images))
        with torch.autocast(images.device.type, enabled=False):
            difference = (predicted.float() - target.float()).square().mean()
        return losses | {"consistency": consistency_weight(step, self.steps) * difference}

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Move the teacher towards the weights after so many steps; after the first they are equal."""
        if step:
            decay = min(1 - 1 / step, DECAY)
            means = dict(self.teacher.named_buffers())
            for name, weight in self.student.named_parameters():
                means[name].lerp_(weight, 1 - decay)

    def _image(self, stream: str) -> Tensor:
        """Return the unlabelled image of a sample's stream, drawn at random and augmented as labelled ones are."""
        index = int(seeding.numpy_rng(stream, "unlabelled").integers(len(self.unlabelled)))
        image, mask = to_unit_range(self.unlabelled.image[index]), self.unlabelled.mask[index].long()
        if self.augment is not None:
            image, _ = self.augment(image, mask, seeding.numpy_rng(stream, "unlabelled", "augment"))
        return image


def with_buffers(network: nn.Module) -> nn.Module:
    """Return the network with buffers in the place of its weights: no gradient reaches them, checkpoints hold them."""
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, weight.detach())
    return network


def check(segmenter: Segmenter) -> None:
    """Raise UserError for a segmenter whose prediction is not one pass of one network."""
    if not getattr(segmenter, "one_pass", False):
        raise UserError(
            f"unlabelled: mean_teacher needs segmenters that predict a whole image in one pass, and"
            f" {segmenter.about['method']} does not; leave unlabelled out or choose another segmenter"
        )


def consistency_weight(step: int, steps: int) -> float:
    """Return WEIGHT exp(-5 (1 - k / ramp)^2), and WEIGHT after the ramp."""
    return WEIGHT * math.exp(-5 * (1 - min(step / (RAMP * steps), 1.0)) ** 2)


def _noise(shape: torch.Size, stream: str) -> Tensor:
    drawn = torch.randn(shape, generator=seeding.torch_rng(stream, "teacher"))
    return (NOISE * drawn).clamp(-LARGEST_NOISE, LARGEST_NOISE)
