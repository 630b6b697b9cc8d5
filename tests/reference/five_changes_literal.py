"""The five changes of DermoSegDiff's training pixel by pixel: Affine, CoarseDropout, Flip, GaussNoise and RGBShift.

Written from what albumentations 1.3.1 documents of these transforms, in the order and with the limits of the settings
that DermoSegDiff's authors published, on images in units of 255. Random numbers are drawn as the fast version draws
them.
"""

import math

import numpy as np


def gauss_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """var_limit 10 to 200, each channel on its own."""
    sigma = rng.uniform(10, 200) ** 0.5
    noise = rng.normal(0, 1, image.shape)
    return np.clip(image + sigma * noise, 0, 255)


def rgb_shift(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """-20 to 20 for each channel."""
    shifts = [rng.uniform(-20, 20) for _ in image]
    return np.clip(np.stack([channel + shift for channel, shift in zip(image, shifts, strict=True)]), 0, 255)


def matrix_of(
    angle: float, scale: tuple[float, float] = (1, 1), shear: float = 0, move: tuple[float, float] = (0, 0)
) -> np.ndarray:
    """A homogeneous matrix of (x, y, 1): scikit-image 0.19's AffineTransform."""
    return np.array(
        [
            [scale[0] * math.cos(angle), -scale[1] * math.sin(angle + shear), move[0]],
            [scale[0] * math.sin(angle), scale[1] * math.cos(angle + shear), move[1]],
            [0, 0, 1],
        ]
    )


def affine(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Its defaults: scale 0.9 to 1.1, move 10 % of the side, rotation 15 and shear 10 degrees; black around."""
    height, width = mask.shape
    shear_x, shear_y = (math.radians(rng.uniform(-10, 10)) for _ in range(2))
    scale = rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1)
    angle = math.radians(rng.uniform(-15, 15))
    move = rng.uniform(-0.1, 0.1) * width, rng.uniform(-0.1, 0.1) * height
    centre = width / 2 - 0.5, height / 2 - 0.5
    matrix = matrix_of(0, move=(-centre[0], -centre[1]))
    along_y = matrix_of(-math.pi / 2), matrix_of(0, shear=shear_y), matrix_of(math.pi / 2)
    for step in (*along_y, matrix_of(angle, scale, shear_x, move), matrix_of(0, move=centre)):
        matrix = step @ matrix
    back = np.linalg.inv(matrix)
    moved, labels = np.zeros_like(image), np.zeros_like(mask)
    for row in range(height):
        for column in range(width):
            x, y, _ = back @ np.array([column, row, 1])
            if -0.5 < x < width - 0.5 and -0.5 < y < height - 0.5:
                labels[row, column] = mask[round(y), round(x)]
            left, top = math.floor(x), math.floor(y)
            for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= r < height and 0 <= c < width:
                    moved[:, row, column] += (1 - abs(x - c)) * (1 - abs(y - r)) * image[:, r, c]
    return moved, labels


def coarse_dropout(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """1 to 5 holes with sides of 4 to 16 pixels, of the colour 10, 20, 60; the mask stays."""
    image, (_, height, width) = image.copy(), image.shape
    for _ in range(rng.integers(1, 6)):
        tall = rng.integers(4, 17)
        top = rng.integers(0, height - tall + 1)
        wide = rng.integers(4, 17)
        left = rng.integers(0, width - wide + 1)
        for row in range(top, top + tall):
            for column in range(left, left + wide):
                image[:, row, column] = (10, 20, 60)
    return image


def flip(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Upside down, left to right, or both."""
    code = rng.integers(3)
    if code in (0, 2):
        image, mask = image[:, ::-1], mask[::-1]
    if code in (1, 2):
        image, mask = image[:, :, ::-1], mask[:, ::-1]
    return image, mask
