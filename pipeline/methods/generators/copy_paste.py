"""Copy-paste, the classic baseline without training: a training lesion on another training image.

As in Ghiasi et al. (2021), "Simple Copy-Paste", but the lesion goes where the mask says. A real mask brings the lesion
of its own training image; for any other mask the best fitting of some training lesions drawn at random is stretched,
class by class, to the mask's bounding box. The background is another training image whose own lesion is inpainted.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from torch import Tensor

from pipeline.core import files
from pipeline.core.contracts import Sampling
from pipeline.core.errors import UserError
from pipeline.core.section import Section
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.networks.stable_diffusion.model import StableDiffusion

VERSION = 2  # raised when results change
RECORD = "copy_paste.json"
RADIUS = 3  # pixels around a gap that inpainting looks at
Image = NDArray[np.uint8]  # [3, H, W]
Mask = NDArray[np.uint8]  # [H, W] label map


class Params(Section):
    """How lesions are blended in; lengths are shares of the image's side."""

    feather: float = Field(default=0.01, ge=0, le=0.1)  # standard deviation of the soft edge
    margin: float = Field(default=0.02, ge=0, le=0.2)  # around the background's own lesion, covered with it
    candidates: int = Field(default=4, gt=0)  # backgrounds, and lesions, drawn per image; those that fit best are taken


def build(params: Params, model: StableDiffusion, spec: DatasetSpec) -> "CopyPaste":
    """The generator; the base is not used."""
    return CopyPaste(params, spec)


class CopyPaste:
    """Lesions and backgrounds of the training images, put together."""

    def __init__(self, params: Params, spec: DatasetSpec) -> None:
        self.params, self.spec = params, spec
        self.train: ImageSet | None = None
        self.digest: str | None = None  # of the training images that `load` expects

    def set_training_pairs(self, train: ImageSet) -> None:
        """Set the training pairs. Raises UserError where they are fewer than two or not those of `load`."""
        if len(train) < 2:
            raise UserError(f"copy_paste needs two training images or more, found {len(train)}")
        if self.digest is not None and self.digest != train.digest:
            raise UserError("the training images are not those that copy_paste was made with; run stage finetune again")
        self.train = train

    def sample(
        self,
        masks: Tensor,
        prompts: Sequence[str],
        rngs: Sequence[torch.Generator],
        settings: Sampling,
        sources: Sequence[Image | None] = (),
    ) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] for label maps [B, H, W]; prompts and settings have no effect."""
        pixels = masks.cpu().numpy().astype(np.uint8)
        given = sources or [None] * len(pixels)
        made = [self._paste(*one) for one in zip(pixels, given, rngs, strict=True)]
        return torch.from_numpy(np.stack(made))

    def save(self, folder: Path) -> None:
        """Writes which training images it was shown; it learns nothing from them."""
        train = self._shown()
        files.write_json(folder / RECORD, {"training_images": len(train), "digest": train.digest})

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote. Raises UserError where the folder belongs to another method."""
        try:
            self.digest = files.read_json(folder / RECORD)["digest"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder / RECORD} does not fit this generator: {error}") from error

    def _shown(self) -> ImageSet:
        assert self.train is not None, "set_training_pairs comes first"
        return self.train

    def _paste(self, mask: Mask, source: Image | None, rng: torch.Generator) -> NDArray[np.float32]:
        order = torch.randperm(len(self._shown()), generator=rng).tolist()
        lesion, own = (source, mask) if source is not None else self._lesion(mask, order)
        behind = self._background(mask, lesion, order).astype(np.float32)
        if not mask.any():
            return (behind / 255).astype(np.float32)
        front = texture(lesion, own, mask)
        share = ndimage.gaussian_filter((mask > 0).astype(np.float32), self.params.feather * len(mask))
        return ((share * front + (1 - share) * behind).clip(0, 255) / 255).astype(np.float32)

    def _lesion(self, mask: Mask, order: Sequence[int]) -> tuple[Image, Mask]:
        """Of the first candidates that have every class of the mask, the pair whose lesion fills it best."""
        train, wanted = self._shown(), {*np.unique(mask).tolist()} - {0}
        found: list[tuple[int, int, Mask]] = []
        for index in order:
            own = train.mask(train.rows[index])
            if wanted <= {*np.unique(own).tolist()}:
                found.append((unfilled(own, mask), index, own))
            if len(found) == self.params.candidates:
                break
        if not found:
            raise UserError(
                f"copy_paste: no training image has all classes {sorted(wanted)} of a mask to copy them from"
            )
        _, index, own = min(found, key=lambda one: one[0])
        return train.picture(train.rows[index]), own

    def _background(self, mask: Mask, lesion: Image, order: Sequence[int]) -> Image:
        """Of the first candidates, without the image that gives the lesion, the one with least left to cover."""
        train, found = self._shown(), []
        for index in order:
            image = train.image(train.rows[index])
            if not np.array_equal(image, lesion):
                own = self._grown(train.mask(train.rows[index]) > 0)
                found.append((int((own & (mask == 0)).sum()), len(found), image, own))
            if len(found) == self.params.candidates:
                break
        if not found:
            raise UserError("copy_paste: all training images are the same, so there is no other background")
        _, _, image, own = min(found, key=lambda one: one[:2])
        return covered(image, own)

    def _grown(self, lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
        steps = round(self.params.margin * len(lesion))
        return np.asarray(ndimage.binary_dilation(lesion, iterations=steps), bool) if steps else lesion


def covered(image: Image, lesion: NDArray[np.bool_]) -> Image:
    """The image with its lesion inpainted (Telea 2004, OpenCV); as it is where nothing but lesion is there."""
    if not lesion.any() or lesion.all():
        return image
    gap = lesion.astype(np.uint8)
    filled = cv2.inpaint(np.ascontiguousarray(np.moveaxis(image, 0, -1)), gap, RADIUS, cv2.INPAINT_TELEA)
    return np.moveaxis(np.asarray(filled, np.uint8), -1, 0)


def texture(image: Image, own: Mask, mask: Mask) -> NDArray[np.float32]:
    """Colours [3, H, W] of the lesion of `image`, fitted class by class to `mask`; around it those of its edge.

    Inside the mask every pixel has a colour of that class's pixels in `image` (or one between neighbours).
    """
    made = np.zeros(image.shape, np.float32)
    for label in np.unique(mask[mask > 0]).tolist():
        here, there = mask == label, own == label
        made[:, here] = image[:, here] if np.array_equal(here, there) else _stretched(image, there, here)
    return _nearest(made, mask > 0)


def unfilled(own: Mask, mask: Mask) -> int:
    """Pixels of a mask that a lesion, stretched class by class to the bounding boxes, leaves to its edge's colours."""
    left = 0
    for label in np.unique(mask[mask > 0]).tolist():
        down, right = np.rint(_places(own == label, mask == label)).astype(int)
        left += int((own[down, right] != label).sum())
    return left


def _stretched(image: Image, there: NDArray[np.bool_], here: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Colours [3, N] for the pixels `here`, from `there`."""
    filled, places = _nearest(image.astype(np.float32), there), _places(there, here)
    colours = [ndimage.map_coordinates(channel, places, order=1, mode="nearest") for channel in filled]
    return np.stack(colours).astype(np.float32)


def _places(there: NDArray[np.bool_], here: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Rows and columns [2, N] that the pixels `here` get, where one bounding box is laid over the other."""
    boxes = [np.flatnonzero(there.any(1 - axis))[[0, -1]] for axis in (0, 1)]
    pixels = zip(np.nonzero(here), boxes, strict=True)
    return np.stack([np.interp(own, [own.min(), own.max()], box) for own, box in pixels])


def _nearest(image: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Every pixel outside takes the colour of the nearest one inside."""
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    down, right = np.asarray(nearest)
    return image[:, down, right]
