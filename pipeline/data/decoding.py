"""Decoding of files to pixels: damaged files are rejected, EXIF is applied, masks are read exactly as stored."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipeline.data import dicom, png
from pipeline.data.dicom_elements import is_dicom
from pipeline.data.invalid import InvalidData
from pipeline.data.picture_rules import DEEP_MODES, NO_RULES, Colour, PictureRules, labels_of, windowed
from pipeline.data.sample import Sample
from pipeline.data.tiff import as_rgb, check_header, read_header, refusal

IMAGE_TYPES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".dcm")
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP")  # no others: PostScript, for example, is a program
PICTURE_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV")
WITH_ALPHA = ("RGBA", "LA", "PA")
COLOUR_TOLERANCE = 16  # grey levels between the channels of a mask stored as RGB; more is a colour code
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Fault:
    """One problem for the user to fix: a file relative to data.root (or a key of params.yaml) and what is wrong."""

    location: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.message}"


@dataclass(frozen=True)
class FilePair:
    """A pair of files that is not decoded yet; the fields are those of Sample."""

    id: str
    image: Path
    mask: Path
    root: Path
    prompt: str = ""
    split: str | None = None
    source: str = ""
    group: str = ""

    @property
    def origin(self) -> str:
        """Path of the image file relative to data.root."""
        return display_path(self.image, self.root)


@dataclass(frozen=True)
class LazySample:
    """A pair that is loaded when it is needed, for sets that do not fit into memory at their own size."""

    origin: str  # file or folder relative to data.root
    split: str | None
    load: Callable[[], Sample]  # raises InvalidData
    group: str = ""


Item = Sample | FilePair | LazySample | Fault  # yielded by readers


def display_path(path: Path, root: Path) -> str:
    """Return a file relative to `root`, on one line, with unprintable characters escaped."""
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name.as_posix())


def ensure_inside(path: Path, root: Path, setting: str = "data.root") -> Path:
    """Return the path. Raises InvalidData if it leads out of `root` by .., an absolute path or a link.

    `setting` is the parameter that names `root`.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise InvalidData(
            f"leads out of {setting}; put the file itself there, or set {setting} to a folder that holds it"
        )
    return path


def decode(pair: FilePair | LazySample, rules: PictureRules = NO_RULES) -> Sample | list[Fault]:
    """Return the pixels of a pair at their own size, or all faults of its files; the rules are for files."""
    if isinstance(pair, LazySample):
        try:
            return pair.load()
        except InvalidData as fault:
            return [Fault(pair.origin, str(fault))]
    faults, parts, notes = [], [], []
    image, mask = partial(read_image, window=rules.window), partial(read_mask, palette=rules.palette)
    for path, read in ((pair.image, image), (pair.mask, mask)):
        try:
            pixels, remarks = read(ensure_inside(path, pair.root))
        except InvalidData as fault:
            faults.append(Fault(display_path(path, pair.root), str(fault)))
        else:
            parts.append(pixels)
            notes += remarks
    if faults:
        return faults
    metadata = (pair.prompt, pair.split, pair.source, pair.group, pair.origin)
    return Sample(pair.id, parts[0], parts[1][None], *metadata, tuple(notes))


def headers_agree(pair: FilePair) -> bool:
    """Return whether both files of a pair open and claim one size; no pixel is decoded, no rotation by EXIF applied."""
    try:
        return len({claimed_size(ensure_inside(path, pair.root)) for path in (pair.image, pair.mask)}) == 1
    except Exception:  # noqa: BLE001, `decode` finds the reason
        return False


def claimed_size(path: Path) -> tuple[int, int]:
    """Return width and height by the header. Raises whatever a damaged file raises."""
    header = read_header(path)
    if header is not None:
        check_header(header, "mask")
        return header.size
    if is_dicom(path):
        return dicom.read_size(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as picture:
            return picture.size


def read_image(path: Path, window: tuple[float, float] | None = None) -> tuple[Pixels, list[str]]:
    """Return colours [3, H, W] and notes on what had to be corrected. Raises InvalidData.

    Of grey images with more than 8 bits, `window` says which levels become 0 and 255; of DICOM it goes before the
    file's own.
    """
    if is_dicom(path):
        return dicom.read_picture(path, window)
    picture, notes = _load(path, "image", deep=window is not None)
    if window is not None and picture.mode in DEEP_MODES:
        levels = windowed(_pixels(picture), window)
        return np.stack([levels] * 3), [*notes, f"image: more than 8 bits, window {window[0]:g} to {window[1]:g}"]
    if picture.mode not in PICTURE_MODES:
        raise InvalidData(
            f"holds {picture.mode} pixels of more than 8 bits; state which levels are black and white"
            " (data.picture_window: [0, 4095]), or save it with 8 bits per channel"
        )
    if picture.mode in WITH_ALPHA:
        notes.append("image: transparency dropped")
    return np.moveaxis(_pixels(picture, "RGB"), -1, 0), notes


def read_mask(path: Path, palette: tuple[Colour, ...] = ()) -> tuple[Pixels, list[str]]:
    """Return grey values or labels [H, W] as stored (of a palette image the indices). Raises InvalidData.

    `palette` says instead which colours the labels 0, 1, 2 ... have.
    """
    if is_dicom(path):
        raise InvalidData("is a DICOM file; save the mask as PNG, or read series with DICOM-SEG (data.reader: dicom)")
    picture, notes = _load(path, "mask")
    if picture.mode in WITH_ALPHA:
        notes.append("mask: transparency dropped")
    if palette:
        return labels_of(_pixels(picture, "RGB"), palette), notes
    if picture.mode in ("LA", "PA"):
        picture = picture.getchannel(0)
    if picture.mode in ("1", "L", "P"):
        return _pixels(picture).astype(np.uint8), notes
    values = _pixels(picture, "RGB" if picture.mode in PICTURE_MODES else None)
    return (_grey_mask(values) if values.ndim == 3 else _to_uint8(values)), notes


def grey(image: Pixels) -> Pixels:
    """Return [1, H, W] of a colourless image [3, H, W]. Raises InvalidData if it has colours."""
    if channel_spread(image).max(initial=0) > COLOUR_TOLERANCE:
        raise InvalidData("is a colour image, but data.channels asks for grey ones; save it as grey levels")
    return image[1:2]


def channel_spread(image: Pixels) -> Pixels:
    """Return [H, W], the largest minus the smallest value of the channels of [C, H, W]; fast for few channels."""
    return functools.reduce(np.maximum, image) - functools.reduce(np.minimum, image)


def resize(image: Pixels, labels: Pixels, size: int) -> tuple[Pixels, Pixels]:
    """Resize image [C, H, W] and labels [H, W] to size x size, whatever the aspect ratio."""
    return resize_image(image, size), resize_labels(labels, size)


def resize_labels(labels: Pixels, size: int) -> Pixels:
    """Resize labels [H, W] to size x size by nearest neighbour, which makes no new values."""
    nearest = Image.fromarray(np.ascontiguousarray(labels)).resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(nearest)


def resize_image(image: Pixels, size: int) -> Pixels:
    """Resize an image [C, H, W] to size x size (linear with antialiasing).

    The paper's code uses OpenCV's linear interpolation without antialiasing, which aliases for factors above 2.
    """
    if len(image) != 3:
        return np.stack([_resize_plane(plane, size) for plane in image])
    return np.moveaxis(_resize_plane(np.moveaxis(image, 0, -1), size), -1, 0)


def _resize_plane(pixels: Pixels, size: int) -> Pixels:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def _load(path: Path, kind: str, deep: bool = False) -> tuple[Image.Image, list[str]]:
    """Return the decoded picture, upright, and notes on a rotation by EXIF and a tag that was not believed.

    `deep`: one plane may have 16 bits.
    """
    notes, header = [], None
    try:
        png.check_header(path)
        source, header = path, read_header(path)
        if header is not None:
            check_header(header, kind, deep)
            if header.grey_in_name_only:
                source = as_rgb(path, header)
                notes.append(f"{kind}: TIFF tagged as grey, three samples per pixel read as RGB")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as picture:
                _check_single_frame(picture)
                picture.load()
                orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
                upright = ImageOps.exif_transpose(picture)
    except BOMB:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise InvalidData(
            f"claims more than {limit} million pixels (a decompression bomb?); crop it or make it smaller"
        ) from None
    except InvalidData:
        raise
    except UnidentifiedImageError as error:
        raise InvalidData(refusal(header) if header is not None else _undecodable(error)) from error
    except Exception as error:  # what a damaged file raises is up to Pillow's decoders
        raise InvalidData(_undecodable(error)) from error
    if orientation in range(2, 9):
        notes.append(f"{kind}: turned upright, EXIF orientation {orientation}")
    return upright, notes


def _undecodable(error: Exception) -> str:
    return f"cannot be decoded ({decoder_message(error)}); replace or remove the pair"


def _pixels(picture: Image.Image, mode: str | None = None) -> NDArray[Any]:
    """Return [H, W] or [H, W, 3], converted to a mode or as decoded. Raises InvalidData."""
    try:
        return np.asarray(picture if mode is None else picture.convert(mode))
    except MemoryError:
        raise InvalidData(f"needs more memory than is available ({picture.width} x {picture.height} pixels)") from None
    except ValueError as error:
        raise InvalidData(f"holds {picture.mode} pixels, which cannot be decoded ({decoder_message(error)})") from None


def decoder_message(error: Exception) -> str:
    """Return the message of a decoder about a damaged file, on one line and without the path of the file."""
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _check_single_frame(picture: Image.Image) -> None:
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # MPO: a photograph with its preview
        raise InvalidData(f"holds {frames} frames; save the one that you mean")


def _grey_mask(colours: Pixels) -> Pixels:
    """Return [H, W] of a grey mask stored as [H, W, 3]."""
    spread = colours.max(-1).astype(int) - colours.min(-1)
    if spread.max(initial=0) > COLOUR_TOLERANCE:
        raise InvalidData(
            "is a colour mask; state the colours of its labels (data.palette), or save it as grey levels or as a"
            " palette image (labels 0, 1, 2 ...)"
        )
    return colours[..., 0]


def _to_uint8(values: NDArray[np.generic]) -> Pixels:
    """Return a mask stored with more than 8 bits as uint8. Raises InvalidData if its values need more."""
    narrow = values.astype(np.uint8)
    if (narrow != values).any():
        raise InvalidData(f"holds values up to {values.max()}; save it with 8 bits (0 and 255, or labels 0, 1, 2 ...)")
    return narrow
