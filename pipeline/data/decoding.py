"""Files to pixels: decoding that refuses what is damaged, applies EXIF rotation and reads masks exactly as stored."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipeline.data.sample import Sample

IMAGE_TYPES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP")  # no others: PostScript, for one, is a program
PICTURE_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV")
WITH_ALPHA = ("RGBA", "LA", "PA")
COLOUR_TOLERANCE = 16  # grey levels between the channels of a mask stored as RGB; more is a colour code
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
Pixels = NDArray[np.uint8]


class Faulty(Exception):
    """Why one file or pair cannot be used; becomes one line of the list of faults."""


@dataclass(frozen=True)
class Fault:
    """One thing the user must mend: a file relative to data.root (or a key of params.yaml) and what is wrong."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Reference:
    """A pair of files that a reader found and nobody has decoded yet; the fields are those of Sample."""

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
        """The image file relative to data.root."""
        return shown(self.image, self.root)


@dataclass(frozen=True)
class Deferred:
    """A pair that its reader makes when its turn comes, for sets that do not fit into memory at their own size."""

    origin: str  # file or folder relative to data.root
    split: str | None
    make: Callable[[], Sample]  # raises Faulty
    group: str = ""


Item = Sample | Reference | Deferred | Fault  # what readers yield


def shown(path: Path, root: Path) -> str:
    """A file relative to `root`, on one line and printable whatever its name holds."""
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name.as_posix())


def inside(path: Path, root: Path) -> Path:
    """The same path. Raises Faulty where it leads out of `root`: by .., from the top, or by a link."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise Faulty("leads out of data.root; put the file itself there, or set data.root to a folder that holds it")
    return path


def decode(pair: Reference | Deferred) -> Sample | list[Fault]:
    """The pixels of a pair at their own size, or all that is wrong with its files."""
    if isinstance(pair, Deferred):
        try:
            return pair.make()
        except Faulty as fault:
            return [Fault(pair.origin, str(fault))]
    faults, parts, notes = [], [], []
    for path, read in ((pair.image, read_image), (pair.mask, read_mask)):
        try:
            pixels, remarks = read(inside(path, pair.root))
        except Faulty as fault:
            faults.append(Fault(shown(path, pair.root), str(fault)))
        else:
            parts.append(pixels)
            notes += remarks
    if faults:
        return faults
    image, mask = parts
    about = (pair.prompt, pair.split, pair.source, pair.group, pair.origin)
    return Sample(pair.id, image, mask[None], *about, tuple(notes))


def read_image(path: Path) -> tuple[Pixels, list[str]]:
    """Colours [3, H, W] and what had to be mended. Raises Faulty."""
    picture, notes = _load(path, "image")
    if picture.mode not in PICTURE_MODES:
        raise Faulty(f"holds {picture.mode} pixels of more than 8 bits; save it with 8 bits per channel")
    if picture.mode in WITH_ALPHA:
        notes.append("image: transparency dropped")
    return np.moveaxis(_pixels(picture, "RGB"), -1, 0), notes


def read_mask(path: Path) -> tuple[Pixels, list[str]]:
    """Grey values or labels [H, W] as stored; a palette image gives its indices, not its colours. Raises Faulty."""
    picture, notes = _load(path, "mask")
    if picture.mode in ("LA", "PA"):
        picture = picture.getchannel(0)
    if picture.mode in ("1", "L", "P"):
        return _pixels(picture).astype(np.uint8), notes
    values = _pixels(picture, "RGB" if picture.mode in PICTURE_MODES else None)
    return (_grey(values) if values.ndim == 3 else _narrow(values)), notes


def grey(image: Pixels) -> Pixels:
    """[1, H, W] of an image [3, H, W] without colours. Raises Faulty where it has some."""
    spread = image.max(0).astype(int) - image.min(0)
    if spread.max(initial=0) > COLOUR_TOLERANCE:
        raise Faulty("is a colour image where a grey one is meant (data.channels); save it as grey levels")
    return image[1:2]


def resize(image: Pixels, labels: Pixels, size: int) -> tuple[Pixels, Pixels]:
    """Squashes image [C, H, W] and labels [H, W] to size x size (the aspect is not kept)."""
    return resize_image(image, size), resize_labels(labels, size)


def resize_labels(labels: Pixels, size: int) -> Pixels:
    """Squashes labels [H, W] to size x size: the nearest pixel, no new values."""
    nearest = Image.fromarray(np.ascontiguousarray(labels)).resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(nearest)


def resize_image(image: Pixels, size: int) -> Pixels:
    """Squashes an image [C, H, W] to size x size, averaged over the pixels it loses (linear with antialiasing).

    The paper's code uses OpenCV's linear interpolation without, which aliases where the factor is above 2.
    """
    if len(image) != 3:
        return np.stack([_squashed(plane, size) for plane in image])
    return np.moveaxis(_squashed(np.moveaxis(image, 0, -1), size), -1, 0)


def _squashed(pixels: Pixels, size: int) -> Pixels:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def _load(path: Path, kind: str) -> tuple[Image.Image, list[str]]:
    """The decoded picture, upright, and a note where EXIF turned it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                _single_frame(picture)
                picture.load()
                orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
                upright = ImageOps.exif_transpose(picture)
    except BOMB:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise Faulty(
            f"claims more than {limit} million pixels (a decompression bomb?); crop it or make it smaller"
        ) from None
    except Faulty:
        raise
    except Exception as error:  # what a damaged file raises is up to Pillow's decoders
        raise Faulty(f"cannot be decoded ({damage(error)}); replace or remove the pair") from error
    turned = orientation in range(2, 9)
    return upright, [f"{kind}: turned upright, EXIF orientation {orientation}"] if turned else []


def _pixels(picture: Image.Image, mode: str | None = None) -> NDArray[Any]:
    """[H, W] or [H, W, 3] in another mode or as decoded. Raises Faulty."""
    try:
        return np.asarray(picture if mode is None else picture.convert(mode))
    except MemoryError:
        raise Faulty(f"needs more memory than there is ({picture.width} x {picture.height} pixels)") from None
    except ValueError as error:
        raise Faulty(f"holds {picture.mode} pixels, which are not understood ({damage(error)})") from None


def damage(error: Exception) -> str:
    """What a decoder says of a damaged file, on one line and without the file's place."""
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _single_frame(picture: Image.Image) -> None:
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # MPO: a photograph with its preview
        raise Faulty(f"holds {frames} frames; save the one that is meant")


def _grey(colours: Pixels) -> Pixels:
    """A mask stored as [H, W, 3] grey."""
    spread = colours.max(-1).astype(int) - colours.min(-1)
    if spread.max(initial=0) > COLOUR_TOLERANCE:
        raise Faulty("is a colour mask; save it as grey levels or as a palette image (labels 0, 1, 2 ...)")
    return colours[..., 0]


def _narrow(values: NDArray[np.generic]) -> Pixels:
    """A mask stored with more than 8 bits that needs no more than 8."""
    narrow = values.astype(np.uint8)
    if (narrow != values).any():
        raise Faulty(f"holds values up to {values.max()}; save it with 8 bits (0 and 255, or labels 0, 1, 2 ...)")
    return narrow
