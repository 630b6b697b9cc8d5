"""Procedural endoscopy images with exact masks: folds, vessels, a lesion, distractors, light; the default data set.

Everything is drawn on the unit square from smooth noise, so that an image looks the same at every size. Colours are
RGB in [0, 1], lengths are shares of the image's width, angles radians. No real image went into any number here.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding

Field = NDArray[np.float64]  # [H, W], or [H, W, 3] for colours
Rng = np.random.Generator

AREA = (0.045, 0.22)  # smallest and largest lesion, as a share of the image
MARGIN = 0.03  # between a lesion and the frame
TONE = np.array([0.78, 0.46, 0.37])  # of the mucosa; hue varies little, as under one lamp
TINTS = np.array([[-0.02, -0.22, -0.18], [-0.10, -0.22, -0.16], [-0.22, -0.20, -0.13]])  # redder to darker
LESION, INSTRUMENT = 1, 2  # labels


@dataclass(frozen=True)
class Difficulty:
    """How difficult the images are."""

    faintness: float  # 0: every lesion is plain; 1: most are faint
    distractors: int  # most blotches of a lesion's tint, without its edge, in one image


@dataclass(frozen=True)
class Outline:
    """A star-shaped region in polar coordinates about its centre."""

    distance: Field  # from the edge along the ray from the centre, negative inside
    radial: Field  # 0 at the centre, 1 at the edge
    angle: Field

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Exact mask of the region."""
        return self.radial < 1


def draw(name: str, size: int, difficulty: Difficulty, instrument: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw image [3, H, W] and label map [H, W] of the phantom called `name` (the name of its random streams).

    Labels are 0 and 1 (lesion); with `instrument`, three of four images also hold a 2.
    """
    rngs = {part: seeding.numpy_rng(name, part) for part in ("tissue", "lesion", "distractors", "instrument", "light")}
    outline = lesion_outline(rngs["lesion"], size)
    tone = TONE * rngs["tissue"].uniform(0.8, 1.15) + rngs["tissue"].normal(0, 0.008, 3)
    colour, height = tissue(rngs["tissue"], size, tone, outline)
    colour = add_blotches(rngs["distractors"], colour, difficulty.distractors)
    colour, dome = add_lesion(rngs["lesion"], colour, outline, difficulty.faintness)
    colour = shade(rngs["light"], colour, height + dome)
    labels = np.where(outline.inside, LESION, 0).astype(np.uint8)
    if instrument:
        colour, labels = add_instrument(rngs["instrument"], colour, labels)
    colour = add_sensor_noise(rngs["light"], colour)
    return np.moveaxis(np.rint(255 * colour).astype(np.uint8), -1, 0), labels


# --- noise ---------------------------------------------------------------------------------------------------------


def grid(size: int) -> tuple[Field, Field]:
    """Return coordinates x and y of the pixel centres."""
    line = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(line, line)
    return x, y


@lru_cache
def spline(size: int, cells: int) -> Field:
    """Return weights [size, cells + 3] of cubic B-splines at the pixel centres."""
    position = (np.arange(size) + 0.5) / size * cells
    first = np.floor(position).astype(int)
    t = position - first
    parts = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    weights = np.zeros((size, cells + 3))
    for k, part in enumerate(parts):
        weights[np.arange(size), first + k] = part / 6
    return weights


def noise(rng: Rng, size: int, cells: int, rows: int | None = None) -> Field:
    """Return smooth noise of about unit variance with `cells` bumps across and `rows` (None: as many) down."""
    knots = rng.standard_normal(((rows or cells) + 3, cells + 3))
    return (
        2 * spline(size, rows or cells) @ knots @ spline(size, cells).T
    )  # a cubic B-spline's squares sum to 1/2 or so


def octaves(rng: Rng, size: int, cells: int, count: int) -> Field:
    """Return noise at `count` scales, each twice as fine and half as strong as the previous one."""
    return np.sum([noise(rng, size, cells << k) / 2**k for k in range(count)], axis=0)


# --- tissue --------------------------------------------------------------------------------------------------------


def tissue(rng: Rng, size: int, tone: Field, outline: Outline) -> tuple[Field, Field]:
    """Return colour and height of the mucosa; vessels fade under a lesion."""
    mottle = octaves(rng, size, 2, 4)
    yellow = noise(rng, size, 3)
    colour = tone * (1 + 0.07 * mottle[..., None]) + 0.01 * yellow[..., None] * np.array([0.5, 1.0, -0.8])
    fade = np.clip(outline.distance / 0.03, 0, 1)
    colour -= vessels(rng, size)[..., None] * fade[..., None] * np.array([0.10, 0.19, 0.15])
    return colour, folds(rng, size) + 0.006 * octaves(rng, size, 8, 2)


def vessels(rng: Rng, size: int) -> Field:
    """Return thin lines in [0, 1] where smooth noise crosses zero, present in patches."""
    lines = np.zeros((size, size))
    for cells, width in ((3, 0.011), (6, 0.007)):
        level = octaves(rng, size, cells, 2)
        down, right = np.gradient(level, 1 / size)
        slope = np.hypot(right, down) + 1e-6
        lines = np.maximum(lines, np.exp(-((level / slope / max(width, 0.5 / size)) ** 2)))
    return lines * np.clip(0.3 + 0.7 * noise(rng, size, 2), 0, 1) * rng.uniform(0.2, 1)


def folds(rng: Rng, size: int) -> Field:
    """Return the height of ridges that run across the image along a warped direction."""
    x, y = grid(size)
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.3, 0.6)
    along = x * np.cos(angle) + y * np.sin(angle) + 0.08 * octaves(rng, size, 2, 2)
    ridge = 1 - np.abs(np.sin(np.pi * along / period + rng.uniform(0, np.pi)))
    return rng.uniform(0.01, 0.06) * ridge**1.5 * np.clip(0.6 + 0.5 * noise(rng, size, 2), 0, 1)


# --- lesion and distractors ----------------------------------------------------------------------------------------


def lesion_outline(rng: Rng, size: int) -> Outline:
    """Draw a warped ellipse with an area from AREA, inside the frame by MARGIN."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    area, squeeze, tilt = np.exp(rng.uniform(*np.log(AREA))), rng.uniform(0.62, 1), rng.uniform(0, np.pi)
    order = np.arange(2, 7)
    strength, phase = rng.normal(0, 0.16 / order), rng.uniform(0, 2 * np.pi, len(order))

    def radius(theta: Field) -> Field:
        warp = 1 + (strength * np.cos(theta[..., None] * order + phase)).sum(-1)
        return np.clip(warp, 0.6, 1.4) / np.hypot(np.cos(theta - tilt), np.sin(theta - tilt) / squeeze)

    scale = np.sqrt(area / np.pi / np.mean(radius(angles) ** 2))  # a star-shaped area is half the integral of r^2
    edge = scale * radius(angles)
    cx = centre(rng, edge * np.cos(angles))
    cy = centre(rng, edge * np.sin(angles))
    x, y = grid(size)
    distance, angle = np.hypot(x - cx, y - cy), np.arctan2(y - cy, x - cx)
    edge = scale * radius(angle)
    return Outline(distance - edge, distance / edge, angle)


def centre(rng: Rng, offsets: Field) -> float:
    """Draw a centre from which every offset stays inside the frame."""
    low, high = MARGIN - offsets.min(), 1 - MARGIN - offsets.max()
    return rng.uniform(low, high) if low < high else (low + high) / 2


def add_lesion(rng: Rng, colour: Field, outline: Outline, faintness: float) -> tuple[Field, Field]:
    """Return the colour with the tint and texture of a lesion, and the height of its dome."""
    size = len(colour)
    strength = 1.15 - faintness * rng.uniform(0, 1) ** 0.7
    tint = TINTS[rng.integers(len(TINTS))] + rng.normal(0, 0.015, 3)
    opacity = fading(rng, outline) / (1 + np.exp(outline.distance / rng.uniform(0.007, 0.025)))
    texture = 0.06 * noise(rng, size, int(rng.integers(9, 15))) + 0.05 * noise(rng, size, 5)
    change = strength * (tint + rng.uniform(0.3, 1) * texture[..., None])
    dome = np.clip(1 - outline.radial**2, 0, 1) ** 0.8 * rng.uniform(0.02, 0.10) * strength
    return colour + opacity[..., None] * change, dome


def fading(rng: Rng, outline: Outline) -> Field:
    """Return opacity that falls off towards one side of a lesion, whose edge is then hard to see."""
    side = np.minimum(outline.radial, 1) * np.cos(outline.angle - rng.uniform(0, 2 * np.pi))  # -1 to 1
    return 1 - rng.uniform(0, 0.8) / (1 + np.exp(-4 * side))


def add_blotches(rng: Rng, colour: Field, most: int) -> Field:
    """Draw patches of a lesion's tint that fade out without an edge, and bubbles with a bright rim."""
    x, y = grid(len(colour))
    for _ in range(rng.integers(most + 1)):
        (cx, cy), width, tilt = rng.uniform(0, 1, 2), rng.uniform(0.06, 0.14), rng.uniform(0, np.pi)
        along, across = rotated(x - cx, y - cy, tilt)
        patch = np.exp(-((along / width) ** 2 + (across / width / 0.6) ** 2) / 2)
        tint = TINTS[rng.integers(len(TINTS))] + rng.normal(0, 0.015, 3)
        colour = colour + rng.uniform(0.4, 1) * patch[..., None] * tint
    for _ in range(rng.integers(most + 1)):
        (cx, cy), radius = rng.uniform(0, 1, 2), rng.uniform(0.015, 0.045)
        rim = np.exp(-(((np.hypot(x - cx, y - cy) - radius) / 0.009) ** 2))
        colour = colour + rng.uniform(0.05, 0.2) * rim[..., None]
    return colour


def rotated(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """Return coordinates along and across a direction."""
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def add_instrument(rng: Rng, colour: Field, labels: NDArray[np.uint8]) -> tuple[Field, NDArray[np.uint8]]:
    """Draw a grey shaft from beyond the frame, in three of four images, over little of the lesion."""
    if rng.random() < 0.25:
        return colour, labels
    candidates = [draw_shaft(rng, len(colour)) for _ in range(4)]
    across, shaft = min(candidates, key=lambda bar: (bar[1] & (labels == LESION)).sum())
    metal = rng.uniform(0.45, 0.75) * np.array([0.95, 1.0, 1.06]) * (1.15 - 0.7 * across[..., None] ** 2)
    metal = metal + 0.25 * np.exp(-(((across[..., None] + 0.3) / 0.15) ** 2))
    return np.where(shaft[..., None], metal, colour), np.where(shaft, INSTRUMENT, labels).astype(np.uint8)


def draw_shaft(rng: Rng, size: int) -> tuple[Field, NDArray[np.bool_]]:
    """Return a bar with a round tip: position across it in [-1, 1] and its mask."""
    x, y = grid(size)
    angle, (tx, ty), radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.75, 2), rng.uniform(0.05, 0.09)
    along, across = rotated(x - tx, y - ty, angle)
    return across / radius, np.hypot(np.minimum(along, 0), across) < radius


# --- light and sensor ----------------------------------------------------------------------------------------------


def shade(rng: Rng, colour: Field, height: Field) -> Field:
    """Shade the surface by a lamp beside the lens, a radial fall-off from a random centre, and highlights."""
    size = len(colour)
    x, y = grid(size)
    cx, cy = rng.uniform(0.3, 0.7, 2)
    down, right = np.gradient(height, 1 / size)
    lamp = np.stack([cx - x, cy - y, np.full_like(x, 0.7)], -1)
    normal = np.stack([-right, -down, np.ones_like(x)], -1)
    cosine = (normal * lamp).sum(-1) / np.linalg.norm(normal, axis=-1) / np.linalg.norm(lamp, axis=-1)
    fall = np.exp(-rng.uniform(0.4, 1.4) * ((x - cx) ** 2 + (y - cy) ** 2))
    shaded = colour * (rng.uniform(0.9, 1.15) * (0.35 + 0.65 * np.clip(cosine, 0, 1)) * fall)[..., None]
    return shaded + highlights(rng, size, cosine)[..., None]


def highlights(rng: Rng, size: int, cosine: Field) -> Field:
    """Return a few white dots, most of them where the surface faces the lamp."""
    x, y = grid(size)
    dots = np.zeros((size, size))
    for _ in range(rng.integers(2, 9)):
        row, column = np.unravel_index(np.argmax(cosine + rng.gumbel(0, 0.08, cosine.shape)), cosine.shape)
        along, across = rotated(x - x[row, column], y - y[row, column], rng.uniform(0, np.pi))
        width = rng.uniform(0.006, 0.016)
        dots = np.maximum(dots, np.exp(-((along / width / 1.8) ** 2) - (across / width) ** 2))
    return 0.7 * dots


def add_sensor_noise(rng: Rng, colour: Field) -> Field:
    """Apply a gain per channel and a little noise, clipped to [0, 1]."""
    return np.clip(colour * rng.normal(1, 0.01, 3) + rng.normal(0, 0.012, colour.shape), 0, 1)
