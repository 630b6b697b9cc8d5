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
from scipy import ndimage
from torch import Tensor

from pipeline.core import files
from pipeline.core.contracts import RealImages, Sampling
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.methods.generators import _poisson
from pipeline.methods.generators._copy_paste_params import Params
from pipeline.networks.stable_diffusion.model import StableDiffusion

VERSION = 3  # raised when results change
RECORD = "copy_paste.json"
RADIUS = 3  # pixels around a gap that inpainting looks at
Image = NDArray[np.uint8]  # [3, H, W]
Mask = NDArray[np.uint8]  # [H, W] label map


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
            raise UserError(f"copy_paste needs at least two training images, found {len(train)}")
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
        real: RealImages | None = None,
    ) -> Tensor:
        """Sample images [B, 3, H, W] in [0, 1] for label maps [B, H, W]; prompts and settings have no effect.

        `real` must be None: it chooses its backgrounds itself.
        """
        assert real is None, "study.py refuses keep_background and from_image of copy_paste"
        pixels = masks.cpu().numpy().astype(np.uint8)
        images = sources or [None] * len(pixels)
        result = [self._paste(*inputs) for inputs in zip(pixels, images, rngs, strict=True)]
        return torch.from_numpy(np.stack(result))

    def save(self, folder: Path) -> None:
        """Write which training images it was given; it learns nothing from them."""
        train = self._training_images()
        files.write_json(folder / RECORD, {"training_images": len(train), "digest": train.digest})

    def load(self, folder: Path) -> None:
        """Load what `save` wrote. Raises UserError where the folder belongs to another method."""
        try:
            self.digest = files.read_json(folder / RECORD)["digest"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder / RECORD} does not fit this generator: {error}") from error

    def _training_images(self) -> ImageSet:
        assert self.train is not None, "set_training_pairs comes first"
        return self.train

    def _paste(self, mask: Mask, source: Image | None, rng: torch.Generator) -> NDArray[np.float32]:
        order = torch.randperm(len(self._training_images()), generator=rng).tolist()
        if source is None and self.params.lesions == "apart" and mask.any():
            return self._paste_apart(mask, order)
        lesion, lesion_mask = (source, mask) if source is not None else self._lesion(mask, order)
        behind = self._background(mask, lesion, order).astype(np.float32)
        if not mask.any():
            return (behind / 255).astype(np.float32)
        return self._blended(fit_texture(lesion, lesion_mask, mask), behind, mask)

    def _paste_apart(self, mask: Mask, order: Sequence[int]) -> NDArray[np.float32]:
        """Fill each connected region of a mask with a lesion chosen for it; the first one decides the background."""
        behind, front = None, np.zeros((3, *mask.shape), np.float32)
        for number, region in enumerate(connected_regions(mask)):
            lesion, lesion_mask = self._lesion(region, [*order[number:], *order[:number]])
            behind = self._background(mask, lesion, order).astype(np.float32) if behind is None else behind
            front[:, region > 0] = fit_texture(lesion, lesion_mask, region)[:, region > 0]
        assert behind is not None
        return self._blended(_fill_from_nearest(front, mask > 0), behind, mask)

    def _blended(self, front: NDArray[np.float32], behind: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
        """Return `front` where the mask is, `behind` elsewhere, joined as the parameters say, in [0, 1]."""
        if self.params.blend == "poisson":
            return (_poisson.blend(front, behind, mask > 0).clip(0, 255) / 255).astype(np.float32)
        share = ndimage.gaussian_filter((mask > 0).astype(np.float32), self.params.feather * len(mask))
        return ((share * front + (1 - share) * behind).clip(0, 255) / 255).astype(np.float32)

    def _lesion(self, mask: Mask, order: Sequence[int]) -> tuple[Image, Mask]:
        """Choose, of the first candidates with every class of the mask, the pair whose lesion fills it best."""
        train, wanted = self._training_images(), {*np.unique(mask).tolist()} - {0}
        candidates: list[tuple[int, int, Mask]] = []
        for index in order:
            lesion_mask = train.mask(train.rows[index])
            if wanted <= {*np.unique(lesion_mask).tolist()}:
                candidates.append((unfilled_pixels(lesion_mask, mask), index, lesion_mask))
            if len(candidates) == self.params.candidates:
                break
        if not candidates:
            raise UserError(
                f"copy_paste: no training image has all classes {sorted(wanted)} of a mask to copy them from"
            )
        _, index, lesion_mask = min(candidates, key=lambda candidate: candidate[0])
        return train.picture(train.rows[index]), lesion_mask

    def _background(self, mask: Mask, lesion: Image, order: Sequence[int]) -> Image:
        """Choose, of the first candidates that are not the lesion's image, the one with the least left to inpaint."""
        train, candidates = self._training_images(), []
        for index in order:
            image = train.image(train.rows[index])
            if not np.array_equal(image, lesion):
                lesion_mask = self._dilated(train.mask(train.rows[index]) > 0)
                candidates.append((int((lesion_mask & (mask == 0)).sum()), len(candidates), image, lesion_mask))
            if len(candidates) == self.params.candidates:
                break
        if not candidates:
            raise UserError("copy_paste: all training images are the same, so there is no other background")
        _, _, image, lesion_mask = min(candidates, key=lambda candidate: candidate[:2])
        return inpaint_lesion(image, lesion_mask)

    def _dilated(self, lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
        steps = round(self.params.margin * len(lesion))
        return np.asarray(ndimage.binary_dilation(lesion, iterations=steps), bool) if steps else lesion


def inpaint_lesion(image: Image, lesion: NDArray[np.bool_]) -> Image:
    """Inpaint the lesion of an image (Telea 2004, OpenCV), unless there is none or it fills the image."""
    if not lesion.any() or lesion.all():
        return image
    gap = lesion.astype(np.uint8)
    filled = cv2.inpaint(np.ascontiguousarray(np.moveaxis(image, 0, -1)), gap, RADIUS, cv2.INPAINT_TELEA)
    return np.moveaxis(np.asarray(filled, np.uint8), -1, 0)


def fit_texture(image: Image, lesion_mask: Mask, mask: Mask) -> NDArray[np.float32]:
    """Fit the colours [3, H, W] of the lesion of `image` class by class to `mask`; around it are those of its edge.

    Inside the mask every pixel has a colour of that class's pixels in `image` (or one between neighbours).
    """
    result = np.zeros(image.shape, np.float32)
    for label in np.unique(mask[mask > 0]).tolist():
        target, source = mask == label, lesion_mask == label
        result[:, target] = image[:, target] if np.array_equal(target, source) else _stretch(image, source, target)
    return _fill_from_nearest(result, mask > 0)


def connected_regions(mask: Mask) -> list[Mask]:
    """Return the connected regions of each class as masks of their own, class by class, top to bottom."""
    regions = []
    for label in np.unique(mask[mask > 0]).tolist():
        numbers = np.zeros(mask.shape, np.int32)
        ndimage.label(mask == label, np.ones((3, 3)), output=numbers)
        regions += [np.where(numbers == number, mask, 0).astype(np.uint8) for number in range(1, numbers.max() + 1)]
    return regions


def unfilled_pixels(lesion_mask: Mask, mask: Mask) -> int:
    """Count the pixels of a mask that a lesion leaves unfilled when stretched class by class to the bounding boxes."""
    left = 0
    for label in np.unique(mask[mask > 0]).tolist():
        down, right = np.rint(_corresponding_pixels(lesion_mask == label, mask == label)).astype(int)
        left += int((lesion_mask[down, right] != label).sum())
    return left


def _stretch(image: Image, source: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return colours [3, N] for the pixels of `target`, taken from those of `source`."""
    filled, positions = _fill_from_nearest(image.astype(np.float32), source), _corresponding_pixels(source, target)
    colours = [ndimage.map_coordinates(channel, positions, order=1, mode="nearest") for channel in filled]
    return np.stack(colours).astype(np.float32)


def _corresponding_pixels(source: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Map the pixels of `target` to rows and columns [2, N] of `source`, one bounding box laid over the other."""
    boxes = [np.flatnonzero(source.any(1 - axis))[[0, -1]] for axis in (0, 1)]
    pixels = zip(np.nonzero(target), boxes, strict=True)
    return np.stack([np.interp(axis, [axis.min(), axis.max()], box) for axis, box in pixels])


def _fill_from_nearest(image: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give every pixel outside the colour of the nearest one inside."""
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    down, right = np.asarray(nearest)
    return image[:, down, right]
