"""File formats of an image set: pictures as PNG (contrasts one below the other), volumes as NIfTI."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo, putchunk

from pipeline.core.errors import UserError
from pipeline.data.decoding import InvalidData, decoder_message
from pipeline.data.nifti import encode, read
from pipeline.data.sample import DatasetSpec, Sample

RGB_CHANNELS = 3
VOLUME = ".nii.gz"
HEADER_END = 33  # bytes of a PNG up to the end of its header chunk: signature 8, chunk 4 + 4 + 13 + 4


def file_suffix(sample: Sample) -> str:
    """Return the suffix of the files of a sample."""
    return VOLUME if is_volume(sample) else ".png"


def is_volume(sample: Sample) -> bool:
    """Return whether the image is [C, X, Y, Z]."""
    return np.ndim(sample.image) == 4


def image_bytes(sample: Sample, text: Mapping[str, str] | None = None, fast: bool = False) -> bytes:
    """Return the encoded image of a sample; `text` is embedded into the file of a picture.

    `fast` encodes the same pixels of a picture several times as fast, in other bytes.
    """
    if is_volume(sample):
        voxels = np.asarray(sample.image, np.float32)
        return encode(voxels[0] if len(voxels) == 1 else np.moveaxis(voxels, 0, -1), sample.affine)
    pixels, encode_png = np.asarray(sample.image, np.uint8), fast_png if fast else png
    if len(pixels) == RGB_CHANNELS:
        return encode_png(np.moveaxis(pixels, 0, -1), text)
    return encode_png(pixels.reshape(-1, pixels.shape[-1]), text)


def mask_bytes(sample: Sample, mask: NDArray[np.uint8]) -> bytes:
    """Return one encoded label map [*spatial] of a sample."""
    return encode(np.asarray(mask, np.uint8), sample.affine) if is_volume(sample) else png(mask)


def read_image(path: Path, spec: DatasetSpec, content: bytes | None = None) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Return [C, H, W] uint8 or [C, X, Y, Z] float32. Raises UserError.

    `content` is the picture where `path`, by which errors call it, is no file of its own.
    """
    if spec.ndim == 3:
        voxels = _voxels(path).astype(np.float32, copy=False)
        return _check_shape(path, voxels[None] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0), spec)
    if spec.channels == RGB_CHANNELS:
        return np.moveaxis(_decode(path, "RGB", content), -1, 0)
    grey = _decode(path, "L", content)
    if grey.shape[0] % spec.channels:
        raise UserError(
            f"{path} has {grey.shape[0]} rows, which is not a multiple of {spec.channels} contrasts; run its stage"
            " again"
        )
    return grey.reshape(spec.channels, -1, grey.shape[1])


def read_mask(path: Path, spec: DatasetSpec, content: bytes | None = None) -> NDArray[np.uint8]:
    """Return a label map [*spatial]; `content` as in `read_image`. Raises UserError."""
    return _voxels(path).astype(np.uint8) if spec.ndim == 3 else _decode(path, "L", content)


def png(pixels: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """Encode [H, W] labels or [H, W, 3] colours as PNG without palette; `text` becomes iTXt chunks, by keyword."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", pnginfo=_chunks(text))
    return buffer.getvalue()


def fast_png(pixels: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """Encode the same as `png` with one filter and run lengths: faster, and about as small if the picture has noise."""
    import cv2

    options = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH, cv2.IMWRITE_PNG_COMPRESSION, 1)
    options += (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)  # last: the level would reset the strategy
    encoded = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels, options)[1].tobytes()
    buffer = io.BytesIO()
    buffer.write(encoded[:HEADER_END])
    for kind, content, _ in _chunks(text).chunks:
        putchunk(buffer, kind, content)
    buffer.write(encoded[HEADER_END:])
    return buffer.getvalue()


def _chunks(text: Mapping[str, str] | None) -> PngInfo:
    chunks = PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_itxt(keyword, value)
    return chunks


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


def _decode(path: Path, mode: str, content: bytes | None) -> NDArray[np.uint8]:
    try:
        with Image.open(
            path if content is None else io.BytesIO(content), formats=["PNG"]
        ) as image:  # which refuses what claims more than 179 million pixels
            return np.asarray(image.convert(mode))
    except Exception as error:  # what a damaged file raises is up to Pillow's decoder
        raise UserError(
            f"{path} cannot be decoded ({decoder_message(error)}); remove it and run its stage again"
        ) from error
