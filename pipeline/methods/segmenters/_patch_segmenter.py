"""Segmenters of one or several networks that predict an image window by window (contracts.Segmenter)."""

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
from pipeline.methods.segmenters import _muscle_postprocessing, _sliding_windows, _supervised
from pipeline.methods.segmenters._random_affine import RandomAffine
from pipeline.methods.segmenters._recycling import PlainObjective, RecyclingObjective
from pipeline.methods.segmenters._recycling_params import Params
from pipeline.methods.segmenters._supervised import Supervised
from pipeline.networks.unets.first_recycling_unet import FirstRecyclingUNet
from pipeline.networks.unets.recycling_unet import RecyclingShape, RecyclingUNet

SCHEDULES = {"linear": betas.linear, "quadratic": betas.quadratic, "cosine": betas.cosine}


def about(method: str, params: Params, stochastic: bool) -> dict[str, Any]:
    """Return what identifies a segmenter beside its training; masks that are postprocessed have a version of that."""
    record = {"method": method, "params": params.model_dump(mode="json"), "stochastic": stochastic}
    record["weights"] = _supervised.weights_record("none")
    if params.postprocess != "none":
        record["postprocess_version"] = _muscle_postprocessing.VERSION
    return record


def build_plain(params: Params, spec: DatasetSpec) -> PlainObjective:
    """Return the trunk without time and its objective. Raises UserError where images are too small."""
    return PlainObjective(_trunk(params, spec, spec.channels, time=False), params)


def build_recycling(params: Params, spec: DatasetSpec) -> RecyclingObjective:
    """Return the trunk with time and its objective. Raises UserError where images are too small."""
    process = Process.of(SCHEDULES[params.schedule](params.schedule_steps), params.prediction)
    in_channels = spec.channels + (2 if params.self_conditioned else 1) * spec.num_classes
    return RecyclingObjective(
        _trunk(params, spec, in_channels, time=True), process.respaced(params.train_steps), params
    )


def _trunk(params: Params, spec: DatasetSpec, in_channels: int, time: bool) -> RecyclingUNet | FirstRecyclingUNet:
    params.check(spec)
    shape = RecyclingShape(
        spec.ndim,
        in_channels,
        spec.num_classes,
        **params.model_dump(include={"channels", "blocks", "heads", "layers", "version"}),
        patch=params.first_stride,
        dropout=params.dropout_share,
        time=time,
        window=tuple(map(min, spec.spatial, spec.spatial if params.patch is None else params.patch)),
    )
    assert shape.window is not None
    for side, stride in zip(shape.window, shape.stride, strict=True):
        _supervised.check_size(side, stride)
    return FirstRecyclingUNet(shape) if params.version == "0.1.0" else RecyclingUNet(shape)


class PatchSegmenter(Supervised):
    """A segmenter that averages the probabilities of its parts, each stitched together from windows."""

    one_pass = False

    def __init__(
        self, parts: Sequence[PlainObjective | RecyclingObjective], objective: nn.Module, spec: DatasetSpec, about: Any
    ) -> None:
        networks = nn.ModuleList(part.network for part in parts)
        super().__init__(networks, spec, about, objective)  # type: ignore[arg-type]
        self.parts, self.params = parts, parts[0].params
        self.takes_ignored = not about["stochastic"]  # noise is added to masks, and an ignored pixel has none

    @torch.no_grad()
    def predict(self, image: Tensor, num_samples: int = 1) -> Tensor:
        """Return probabilities [B, S, K, *spatial]; samples differ in their noise, without diffusion all are equal."""
        self.objective.eval()
        image = self._to_device(image)
        if self.about["stochastic"]:
            probabilities = torch.stack([self._steps(image, sample, last=True)[-1] for sample in range(num_samples)], 1)
        else:
            probabilities = self._steps(image, 0)[-1][:, None].expand(-1, num_samples, *[-1] * (image.ndim - 1))
        if self.params.postprocess == "muscle_us":
            return _muscle_postprocessing.postprocess(probabilities)
        return probabilities

    def augment(self, train: ImageSet) -> Augment | None:
        """Return random rotations, shifts and scalings, flips where enabled, then a random patch; None without any."""
        params, axes = self.params, self.spec.ndim
        shift = params.shift if isinstance(params.shift, tuple) else (params.shift,) * axes
        affine = RandomAffine(params.rotation, shift, params.scaling)
        affine = affine if params.rotation or any(shift) or params.scaling else None
        augments = affine or params.flips or params.patch
        return PatchAugmentation(affine, params.flips, params.patch) if augments else None

    def scale_encoder_rate(self, factor: float) -> None:
        """Raise UserError: the trunk is trained as a whole."""
        raise UserError(f"{self.about['method']} has no encoder of its own; leave encoder_rate at 1")

    def _to_device(self, image: Tensor) -> Tensor:
        return image.to(next(self.objective.parameters()).device)

    def _steps(self, image: Tensor, sample: int, last: bool = False) -> Tensor:
        """Return mean probabilities [N, B, K, *spatial] after all steps, or the last; one-step parts count in each."""
        windows = _sliding_windows.sliding_windows(image.shape[2:], self.params.patch, self.params.overlap)
        probabilities = [
            _sliding_windows.stitch_windows(image, windows, _window_predictor(part, sample, last))
            for part in self.parts
        ]
        return sum(probabilities[1:], probabilities[0]) / len(probabilities)


class DiffusionSegmenter(PatchSegmenter):
    """A segmenter that arrives at its prediction in sampling steps."""

    @torch.no_grad()
    def trajectory(self, image: Tensor) -> Tensor:
        """Return probabilities [steps, B, K, *spatial] of the first sample after each sampling step."""
        self.objective.eval()
        return self._steps(self._to_device(image), 0)


def _window_predictor(part: PlainObjective | RecyclingObjective, sample: int, last: bool) -> Callable[[Tensor], Tensor]:
    """Return the function from a window to its log-probabilities [N, B, K, *window]."""
    return lambda window: torch.stack(part.predict_steps(window, sample)[-1 if last else 0 :])


@dataclass(frozen=True)
class PatchAugmentation:
    """A random affine transform, flips, then a random patch of `patch` cells."""

    affine: RandomAffine | None
    flips: bool
    patch: tuple[int, ...] | None

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Augment an image [C, *spatial] and its label map."""
        if self.affine is not None:
            image, mask = self.affine(image, mask, rng)
        if self.flips:
            image, mask = dihedral(image, mask, rng)
        if self.patch is None:
            return image, mask
        window = _sliding_windows.random_window(mask.shape, self.patch, rng)
        return image[(..., *window)], mask[window]
