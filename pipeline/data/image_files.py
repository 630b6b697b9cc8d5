"""File formats of an image set: pictures as PNG (contrasts one below the other), volumes as NIfTI."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.core.errors import UserError
from pipeline.data.decoding import InvalidData, decoder_message
from pipeline.data.nifti import encode, read
from pipeline.data.sample import DatasetSpec, Sample

RGB_CHANNELS = 3
VOLUME = ".nii.gz"


def file_suffix(sample: Sample) -> str:
    """Return the suffix of the files of a sample."""
    return VOLUME if is_volume(sample) else ".png"


def is_volume(sample: Sample) -> bool:
    """Return whether the image is [C, X, Y, Z]."""
    return np.ndim(sample.image) == 4


def image_bytes(sample: Sample, text: Mapping[str, str] | None = None) -> bytes:
    """Return the encoded image of a sample; `text` is embedded into the file of a picture."""
    if is_volume(sample):
        voxels = np.asarray(sample.image, np.float32)
        return encode(voxels[0] if len(voxels) == 1 else np.moveaxis(voxels, 0, -1), sample.affine)
    pixels = np.asarray(sample.image, np.uint8)
    if len(pixels) == RGB_CHANNELS:
        return png(np.moveaxis(pixels, 0, -1), text)
    return png(pixels.reshape(-1, pixels.shape[-1]), text)


def mask_bytes(sample: Sample, mask: NDArray[np.uint8]) -> bytes:
    """Return one encoded label map [*spatial] of a sample."""
    return encode(np.asarray(mask, np.uint8), sample.affine) if is_volume(sample) else png(mask)


def read_image(path: Path, spec: DatasetSpec) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Return [C, H, W] uint8 or [C, X, Y, Z] float32. Raises UserError."""
    if spec.ndim == 3:
        voxels = _voxels(path).astype(np.float32, copy=False)
        return _check_shape(path, voxels[None] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0), spec)
    if spec.channels == RGB_CHANNELS:
        return np.moveaxis(_decode(path, "RGB"), -1, 0)
    grey = _decode(path, "L")
    if grey.shape[0] % spec.channels:
        raise UserError(
            f"{path} has {grey.shape[0]} rows, which is not a multiple of {spec.channels} contrasts; run its stage"
            " again"
        )
    return grey.reshape(spec.channels, -1, grey.shape[1])


def read_mask(path: Path, spec: DatasetSpec) -> NDArray[np.uint8]:
    """Return a label map [*spatial]. Raises UserError."""
    return _voxels(path).astype(np.uint8) if spec.ndim == 3 else _decode(path, "L")


def png(pixels: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """Encode [H, W] labels or [H, W, 3] colours as PNG without palette; `text` becomes iTXt chunks, by keyword."""
    buffer, chunks = io.BytesIO(), PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_itxt(keyword, value)
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def majority_vote(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the label that most raters of label maps [R, *spatial] give each pixel.

    If background ties with a structure, the structure wins (with two classes half of the raters are enough); if
    structures tie, the smaller label wins.
    """
    if len(masks) == 1:
        return masks[0]
    best, most = np.zeros(masks.shape[1:], np.uint8), (masks == 0).sum(0)
    for label in np.unique(masks[masks > 0]):
        votes = (masks == label).sum(0)
        wins = (votes > most) | ((votes == most) & (votes > 0) & (best == 0))
        best, most = np.where(wins, label, best).astype(np.uint8), np.maximum(votes, most)
    return best


def _check_shape(path: Path, voxels: NDArray[np.float32], spec: DatasetSpec) -> NDArray[np.float32]:
    if voxels.shape != (spec.channels, *spec.spatial):
        shape, expected = list(voxels.shape), [spec.channels, *spec.spatial]
        raise UserError(f"{path} holds channels and voxels {shape}, but the set has {expected}; run its stage again")
    return voxels


def _voxels(path: Path) -> NDArray[np.generic]:
    try:
        return read(path)
    except InvalidData as fault:
        raise UserError(f"{path} {fault}; remove it and run its stage again") from None


def _decode(path: Path, mode: str) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=["PNG"]) as image:  # which refuses what claims more than 179 million pixels
            return np.asarray(image.convert(mode))
    except Exception as error:  # what a damaged file raises is up to Pillow's decoder
        raise UserError(
            f"{path} cannot be decoded ({decoder_message(error)}); remove it and run its stage again"
        ) from error
