"""Segmenters of one or several networks that see an image window by window (contracts.Segmenter)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Augment, dihedral
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion import betas
from pipeline.diffusion.process import Process
from pipeline.methods.segmenters import _muscle, _patches, _supervised
from pipeline.methods.segmenters._affine import Affine
from pipeline.methods.segmenters._recycling import Plain, Recycled
from pipeline.methods.segmenters._recycling_params import Params
from pipeline.methods.segmenters._supervised import Supervised
from pipeline.networks.unets.recycling_unet import RecyclingUNet, Shape

SCHEDULES = {"linear": betas.linear, "quadratic": betas.quadratic, "cosine": betas.cosine}


def plain(params: Params, spec: DatasetSpec) -> Plain:
    """The trunk without time and its objective. Raises UserError where images are too small."""
    return Plain(_trunk(params, spec, spec.channels, time=False), params)


def recycled(params: Params, spec: DatasetSpec) -> Recycled:
    """The trunk with time and its objective. Raises UserError where images are too small."""
    process = Process.of(SCHEDULES[params.schedule](params.schedule_steps), params.prediction)
    inside = spec.channels + (2 if params.self_conditioned else 1) * spec.num_classes
    return Recycled(_trunk(params, spec, inside, time=True), process.respaced(params.train_steps), params)


def _trunk(params: Params, spec: DatasetSpec, inside: int, time: bool) -> RecyclingUNet:
    params.check(spec)
    size = params.model_dump(include={"channels", "blocks", "heads", "layers", "dropout"})
    shape = Shape(spec.ndim, inside, spec.num_classes, **size, patch=params.first_stride, time=time)
    seen = spec.spatial if params.patch is None else params.patch
    for side, stride in zip(seen, shape.stride, strict=True):
        _supervised.check_size(side, stride)
    return RecyclingUNet(shape)


class Patched(Supervised):
    """Predicts the mean probability of its parts, each put together from windows."""

    def __init__(self, parts: Sequence[Plain | Recycled], objective: nn.Module, spec: DatasetSpec, about: Any) -> None:
        networks = nn.ModuleList(part.network for part in parts)
        super().__init__(networks, spec, about, objective)  # type: ignore[arg-type]
        self.parts, self.params = parts, parts[0].params

    @torch.no_grad()
    def predict(self, image: Tensor, num_samples: int = 1) -> Tensor:
        """Probabilities [B, S, K, *spatial]; a sample has noise of its own, without diffusion all are equal."""
        self.objective.eval()
        image = self._moved(image)
        if self.about["stochastic"]:
            chance = torch.stack([self._steps(image, sample, last=True)[-1] for sample in range(num_samples)], 1)
        else:
            chance = self._steps(image, 0)[-1][:, None].expand(-1, num_samples, *[-1] * (image.ndim - 1))
        return _muscle.cleaned(chance) if self.params.postprocess == "muscle_us" else chance

    def augment(self, train: ImageSet) -> Augment | None:
        """Random turns, shifts and factors, flips where asked for, then a random patch."""
        own, axes = self.params, self.spec.ndim
        shift = own.shift if isinstance(own.shift, tuple) else (own.shift,) * axes
        affine = Affine(own.rotation, shift, own.scaling) if own.rotation or any(shift) or own.scaling else None
        return Augmentation(affine, own.flips, own.patch) if affine or own.flips or own.patch else None

    def scale_encoder_rate(self, factor: float) -> None:
        """Raises UserError: the trunk is trained as a whole."""
        raise UserError(f"{self.about['method']} has no encoder of its own; leave encoder_rate at 1")

    def _moved(self, image: Tensor) -> Tensor:
        return image.to(next(self.objective.parameters()).device)

    def _steps(self, image: Tensor, sample: int, last: bool = False) -> Tensor:
        """Mean probabilities [N, B, K, *spatial] after all steps, or the last; a part of one step counts in each."""
        places = _patches.windows(image.shape[2:], self.params.patch, self.params.overlap)
        chances = [_patches.stitched(image, places, _scores(part, sample, last)) for part in self.parts]
        return sum(chances[1:], chances[0]) / len(chances)


class Diffused(Patched):
    """A segmenter that comes to its prediction in steps."""

    @torch.no_grad()
    def trajectory(self, image: Tensor) -> Tensor:
        """Probabilities [steps, B, K, *spatial] of the first sample after each sampling step."""
        self.objective.eval()
        return self._steps(self._moved(image), 0)


def _scores(part: Plain | Recycled, sample: int, last: bool) -> Callable[[Tensor], Tensor]:
    """Log-probabilities [N, B, K, *window] of a window."""
    return lambda window: torch.stack(part.found(window, sample)[-1 if last else 0 :])


@dataclass(frozen=True)
class Augmentation:
    """Affine, flips, then a random patch of `patch` cells."""

    affine: Affine | None
    flips: bool
    patch: tuple[int, ...] | None

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """An image [C, *spatial] and its label map."""
        if self.affine is not None:
            image, mask = self.affine(image, mask, rng)
        if self.flips:
            image, mask = dihedral(image, mask, rng)
        if self.patch is None:
            return image, mask
        place = _patches.random_window(mask.shape, self.patch, rng)
        return image[(..., *place)], mask[place]
