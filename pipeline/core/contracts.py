"""The interfaces between the rooms: batches, objectives, generators, segmenters, embedders."""

from __future__ import annotations  # torch, which takes seconds to load, is needed for types only

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

IGNORED = 255  # label of training pixels that no loss counts; classes are 0 to 254


@dataclass(frozen=True)
class Batch:
    """One process's share of a global batch."""

    image: Tensor  # [B, C, *spatial] float in [0, 1]
    mask: Tensor  # [B, *spatial] long label maps; of several raters one each, drawn by the sample's stream
    prompts: tuple[str, ...]
    streams: tuple[str, ...]  # name of each sample's random stream: seed, step and index in the global batch
    synthetic: tuple[bool, ...] = ()  # which samples are synthetic; empty: none are
    ignores: bool = False  # whether any pixel of the masks may be IGNORED; told on the CPU, so that no loss has to look

    def __len__(self) -> int:
        return len(self.streams)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        rest = self.prompts, self.streams, self.synthetic, self.ignores
        return Batch(self.image.to(device), self.mask.to(device), *rest)

    def part(self, start: int, stop: int) -> Batch:
        """Return a micro-batch."""
        window = slice(start, stop)
        rest = self.prompts[window], self.streams[window], self.synthetic[window], self.ignores
        return Batch(self.image[window], self.mask[window], *rest)

    @property
    def kept(self) -> Tensor | None:
        """The pixels [B, *spatial] whose label counts; None: all."""
        return self.mask != IGNORED if self.ignores else None

    @property
    def labels(self) -> Tensor:
        """The masks, with background in place of ignored pixels."""
        return self.mask.masked_fill(self.mask == IGNORED, 0) if self.ignores else self.mask


class Objective(Protocol):
    """An nn.Module whose forward gives named losses, already weighted; the caller sums them.

    It may have a part `adversary`, trained against the rest: the losses that train it reach no other weight, and the
    other losses do not reach it.
    """

    def __call__(self, batch: Batch, progress: float) -> dict[str, Tensor]: ...


class Hint(Protocol):
    """What a control network sees of a pair (conditioning/*.py)."""

    def __call__(self, masks: Tensor, images: Tensor | None = None) -> Tensor:
        """Label maps [B, H, W] and their images [B, 3, H, W] in [0, 1] -> hints [B, 3, H, W] in [0, 1].

        Raises UserError where it needs the images and there are none.
        """
        ...


@dataclass(frozen=True)
class RealImages:
    """The training images that B images are drawn into, or from."""

    images: NDArray[np.uint8]  # [B, 3, H, W]
    holes: NDArray[np.bool_]  # [B, H, W] what is drawn; around it latents and pixels stay those of the image
    shares: NDArray[np.float32]  # [B, H, W] in [0, 1] of the drawn image in each pixel; 0 outside the hole
    strength: float | None = None  # share of the steps that are run, from the noised image; None: all, from noise


class ImageSampler(Protocol):
    """Samples images that follow masks; what all generators share."""

    def sample(
        self,
        masks: Tensor,
        prompts: Sequence[str],
        rngs: Sequence[torch.Generator],
        settings: Sampling,
        sources: Sequence[NDArray[np.uint8] | None] = (),
        real: RealImages | None = None,
    ) -> Tensor:
        """Sample images [B, 3, H, W] in [0, 1] for label maps [B, H, W]; one random stream per image.

        `sources` are, for generators that need them, the training images [3, H, W] that the masks belong to; None
        where a mask belongs to none. `real` are the training images that lend their pixels; None: every pixel is
        drawn.
        """
        ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


@runtime_checkable
class Generator(ImageSampler, Protocol):
    """A generator that learns to make images that follow masks."""

    objective: nn.Module

    def prepare(self, settings: Any) -> None:
        """Set the switches of the section finetune, once, before `batches`. Raises UserError for unusable ones."""
        ...

    def batches(self, pairs: Any, settings: Any, seed: str) -> Any:
        """Return global batches (as data.loading.Batches) of Pairs for the objective, under the section finetune."""
        ...


@runtime_checkable
class Denoises(Protocol):
    """A generator whose network can be asked for the noise in given images: what attacks on its weights need."""

    def denoiser(self, images: Tensor, masks: Tensor, prompts: Sequence[str]) -> Any:
        """Return a diffusion.membership.Denoiser of images [B, 3, H, W] in [0, 1], with label maps [B, H, W]."""
        ...


@runtime_checkable
class TrainingFreeGenerator(ImageSampler, Protocol):
    """A generator that makes images from the training pairs themselves and learns nothing (copy_paste)."""

    def set_training_pairs(self, train: Any) -> None:
        """Set the training pairs (an ImageSet), before `save` and after `load`."""
        ...


@dataclass(frozen=True)
class ConditioningMask:
    """A mask that a synthetic image is to follow, and where it comes from (masks/*.py)."""

    id: str  # unique in its set, part of file names
    source_id: str  # the training image, the file of a bank, or the procedure
    transform: Mapping[str, Any]  # plain JSON; empty: the mask as it is
    pixels: NDArray[np.uint8]  # [H, W] label map
    prompt: str
    source: str  # name of the sub-collection


@runtime_checkable
class ImportedImages(Protocol):
    """Images that were made elsewhere, in place of a generator (folder): each is found by its mask and copy."""

    def check(self, masks: Sequence[ConditioningMask], copies: int) -> None:
        """Raise UserError that names what is missing or cannot be read for so many copies of every mask."""
        ...

    def image(self, mask: ConditioningMask, copy: int) -> NDArray[np.uint8]:
        """Return one image [3, H, W]."""
        ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


@runtime_checkable
class WatchedFiles(Protocol):
    """Parameters of a plug-in that name files of the user's, whose contents count as parameters do."""

    def files_digest(self) -> str:
        """Return a hash of names and contents. Raises UserError where they cannot be read."""
        ...


@runtime_checkable
class SeesImages(Protocol):
    """Parameters of a generator that is trained with the mask's image as a second hint, and can draw with it."""

    @property
    def last_image_weight(self) -> float:
        """The weight of the image's residuals at the end of the training."""
        ...


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampler (params.yaml: generate)."""

    steps: int
    guidance_scale: float
    precision: Literal["fp32", "bf16"] = "fp32"
    sampler: Literal["ddim", "dpmpp_2m", "unipc"] = "ddim"
    compile: bool = False
    reused: tuple[int, ...] = ()  # steps, counted from 0, that take the encoder's features of the step before
    image_weight: float | None = None  # of the residuals of `sources`, which are hints too; None: the masks alone are
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # shares of the training timesteps at which guidance acts
    weaker: Generator | None = None  # an earlier state of the generator, which guides in place of the empty prompt
    eta: float = 0.0  # of ddim: share of the noise of DDPM that every step adds anew; 0 is deterministic
    control_scale: float = 1.0  # factor of what the control adds to the U-Net, as diffusers' conditioning scale
    watch: Callable[[int, Callable[[], Tensor]], None] | None = field(default=None, compare=False)
    # called in every step with its number from 1, and a function that decodes the images [B, 3, H, W] it predicts


@runtime_checkable
class Segmenter(Protocol):
    """Predicts class probabilities."""

    objective: nn.Module
    about: Mapping[
        str, Any
    ]  # method, parameters, initial weights with their sha256: plain JSON, no path of this machine

    def predict(self, image: Tensor, num_samples: int = 1) -> Tensor:
        """[B, C, *spatial] in [0, 1] -> probabilities [B, S, K, *spatial]; K classes with background, summing to 1."""
        ...

    def augment(self, train: Any) -> Any:
        """Return the random augmentation of each pair of an ImageSet in training (data.loading.Augment), or None."""
        ...

    def scale_encoder_rate(self, factor: float) -> None:
        """Let the encoder learn at this multiple of the learning rate. Raises UserError where there is no encoder."""
        ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


class Embedder(Protocol):
    """Turns images into feature rows (a module of features/ with OUTPUT = "rows")."""

    id: str  # names extractor, weights (sha256) and preprocessing: the key of the feature cache

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """[B, 3, H, W] uint8 -> [B, D]."""
        ...


class Comparer(Protocol):
    """Measures the distance of images, pair by pair (a module of features/ with OUTPUT = "distances")."""

    id: str  # as an Embedder's

    def __call__(self, first: Tensor, second: Tensor) -> NDArray[np.float32]:
        """Two of [B, 3, H, W] uint8 -> [B]."""
        ...
