"""The files of an image set: pictures as PNG (contrasts one below the other), volumes as NIfTI."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.core.errors import UserError
from pipeline.data.decoding import Faulty, damage
from pipeline.data.nifti import encode, read
from pipeline.data.sample import DatasetSpec, Sample

COLOURS = 3
VOLUME = ".nii.gz"


def ending(sample: Sample) -> str:
    """What the names of a sample's files end with."""
    return VOLUME if is_volume(sample) else ".png"


def is_volume(sample: Sample) -> bool:
    """Whether the image is [C, X, Y, Z]."""
    return np.ndim(sample.image) == 4


def image_bytes(sample: Sample, text: Mapping[str, str] | None = None) -> bytes:
    """The file of a sample's image; `text` goes into that of a picture."""
    if is_volume(sample):
        voxels = np.asarray(sample.image, np.float32)
        return encode(voxels[0] if len(voxels) == 1 else np.moveaxis(voxels, 0, -1), sample.affine)
    pixels = np.asarray(sample.image, np.uint8)
    if len(pixels) == COLOURS:
        return png(np.moveaxis(pixels, 0, -1), text)
    return png(pixels.reshape(-1, pixels.shape[-1]), text)


def mask_bytes(sample: Sample, mask: NDArray[np.uint8]) -> bytes:
    """The file of one label map [*spatial] of a sample."""
    return encode(np.asarray(mask, np.uint8), sample.affine) if is_volume(sample) else png(mask)


def read_image(path: Path, spec: DatasetSpec) -> NDArray[np.uint8] | NDArray[np.float32]:
    """[C, H, W] uint8 or [C, X, Y, Z] float32. Raises UserError."""
    if spec.ndim == 3:
        voxels = _voxels(path).astype(np.float32, copy=False)
        return _shaped(path, voxels[None] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0), spec)
    if spec.channels == COLOURS:
        return np.moveaxis(_decode(path, "RGB"), -1, 0)
    grey = _decode(path, "L")
    if grey.shape[0] % spec.channels:
        raise UserError(
            f"{path} has {grey.shape[0]} rows, no multiple of {spec.channels} contrasts; run its stage again"
        )
    return grey.reshape(spec.channels, -1, grey.shape[1])


def read_mask(path: Path, spec: DatasetSpec) -> NDArray[np.uint8]:
    """Label map [*spatial]. Raises UserError."""
    return _voxels(path).astype(np.uint8) if spec.ndim == 3 else _decode(path, "L")


def png(pixels: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """PNG of [H, W] labels or [H, W, 3] colours; no palette, no dithering; `text` as iTXt chunks, by keyword."""
    buffer, chunks = io.BytesIO(), PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_itxt(keyword, value)
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def majority(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of label maps [R, *spatial] the label that most raters give each pixel.

    Where background ties with a structure, the structure has it (of two classes: half of the raters are enough);
    where structures tie, the one of the smaller label.
    """
    if len(masks) == 1:
        return masks[0]
    best, most = np.zeros(masks.shape[1:], np.uint8), (masks == 0).sum(0)
    for label in np.unique(masks[masks > 0]):
        votes = (masks == label).sum(0)
        wins = (votes > most) | ((votes == most) & (votes > 0) & (best == 0))
        best, most = np.where(wins, label, best).astype(np.uint8), np.maximum(votes, most)
    return best


def _shaped(path: Path, voxels: NDArray[np.float32], spec: DatasetSpec) -> NDArray[np.float32]:
    if voxels.shape != (spec.channels, *spec.spatial):
        found, wanted = list(voxels.shape), [spec.channels, *spec.spatial]
        raise UserError(f"{path} holds channels and voxels {found}, the set {wanted}; run its stage again")
    return voxels


def _voxels(path: Path) -> NDArray[np.generic]:
    try:
        return read(path)
    except Faulty as fault:
        raise UserError(f"{path} {fault}; remove it and run its stage again") from None


def _decode(path: Path, mode: str) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=["PNG"]) as image:  # which refuses what claims more than 179 million pixels
            return np.asarray(image.convert(mode))
    except Exception as error:  # what a damaged file raises is up to Pillow's decoder
        raise UserError(f"{path} cannot be decoded ({damage(error)}); remove it and run its stage again") from error
