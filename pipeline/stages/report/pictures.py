"""Small pictures of the report as data URIs: label maps, images, outlines of masks on images."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.image_set import png

Pixels = NDArray[np.uint8]
SIDE = 256  # pixels of a picture in the page, at most
QUALITY = 88  # of the JPEG of a picture that was made smaller; others stay lossless
LINE, HALO = (64, 255, 160), (8, 12, 20)
LABELS = np.array(
    [(16, 18, 24), (240, 240, 240), (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167)], np.uint8
)


def uri(pixels: Pixels) -> str:
    """Return a PNG of [H, W, 3] colours as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def photo(pixels: Pixels, side: int = SIDE) -> str:
    """Return an image [H, W, 3], brought to `side`, as a data URI: JPEG where that made it smaller, else PNG."""
    shown = enlarge(pixels, side)
    return jpeg(shown) if pixels.shape[0] > side else uri(shown)


def jpeg(pixels: Pixels) -> str:
    """Return a JPEG of [H, W, 3] colours as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def colours(mask: Pixels) -> Pixels:
    """Return [H, W] labels as [H, W, 3] colours; background dark, further classes repeat the palette."""
    return LABELS[np.where(mask > 0, (mask.astype(int) - 1) % (len(LABELS) - 1) + 1, 0)]


def classes(count: int) -> list[tuple[str, str]]:
    """Return the colours in which `colours` draws `count` labels, as #rrggbb, with the names of the labels."""
    shown = colours(np.arange(count, dtype=np.uint8)[None])[0]
    names = ["background", "foreground"] if count == 2 else ["background", *(f"class {n}" for n in range(1, count))]
    return [("#" + bytes(colour).hex(), name) for colour, name in zip(shown, names, strict=True)]


def enlarge(pixels: Pixels, side: int = SIDE) -> Pixels:
    """Bring [H, W] or [H, W, 3] to about `side` pixels: small ones by repetition, large ones by sampling."""
    height = pixels.shape[0]
    if height <= side:
        return pixels.repeat(side // height, 0).repeat(side // height, 1)
    picture = Image.fromarray(pixels)
    width = round(pixels.shape[1] * side / height)
    return np.asarray(
        picture.resize((width, side), Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.LANCZOS)
    )


def outline(mask: Pixels) -> NDArray[np.bool_]:
    """Return the pixels of [H, W] labels that touch a pixel of another label, left, right, above or below."""
    edge = np.zeros(mask.shape, bool)
    down, across = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


def overlay(image: Pixels, mask: Pixels, side: int = SIDE) -> Pixels:
    """Draw the outline of the mask [H, W] on the enlarged image [H, W, 3], bright between dark lines."""
    drawn, edge = enlarge(image, side).copy(), dilated(outline(enlarge(mask, side)))
    drawn[dilated(edge)] = HALO
    drawn[edge] = LINE
    return drawn


def dilated(edge: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Dilate: return the pixels and their neighbours on the left, right, above and below."""
    return outline(edge.astype(np.uint8)) | edge


def overlay_uri(image: Pixels, mask: Pixels, side: int = SIDE) -> str:
    """Return `overlay` as a data URI."""
    drawn = overlay(image, mask, side)
    return jpeg(drawn) if image.shape[0] > side else uri(drawn)
