"""Small pictures of the report as data URIs: label maps, images, outlines of masks on images."""

import base64

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.image_set import png

Pixels = NDArray[np.uint8]
SIDE = 192  # pixels of a picture in the page
LABELS = np.array(
    [(16, 18, 24), (240, 240, 240), (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167)], np.uint8
)


def uri(pixels: Pixels) -> str:
    """A PNG of [H, W, 3] colours as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def colours(mask: Pixels) -> Pixels:
    """[H, W] labels as [H, W, 3] colours; background dark, further classes repeat the palette."""
    return LABELS[np.where(mask > 0, (mask.astype(int) - 1) % (len(LABELS) - 1) + 1, 0)]


def enlarge(pixels: Pixels) -> Pixels:
    """[H, W] or [H, W, 3] brought to about SIDE pixels: small ones by repetition, large ones by sampling."""
    height = pixels.shape[0]
    if height <= SIDE:
        return pixels.repeat(SIDE // height, 0).repeat(SIDE // height, 1)
    picture = Image.fromarray(pixels)
    width = round(pixels.shape[1] * SIDE / height)
    return np.asarray(
        picture.resize((width, SIDE), Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.LANCZOS)
    )


def outline(mask: Pixels) -> NDArray[np.bool_]:
    """Pixels of [H, W] labels that touch, left, right, above or below, a pixel of another label."""
    edge = np.zeros(mask.shape, bool)
    down, across = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


def overlay(image: Pixels, mask: Pixels) -> Pixels:
    """The enlarged image [H, W, 3] with the outline of the mask [H, W] drawn on it, bright on dark."""
    drawn, edge = enlarge(image).copy(), outline(enlarge(mask))
    drawn[edge] = (64, 255, 160)
    return drawn
