"""What the judge thinks of every pixel of an image, as a small picture: its log-odds in tenths. No torch.

A file holds one plane per class, log p / (1 - p) from -12.7 to 12.7, one below the other as grey levels 1 to 255; of
two classes the foreground alone. Tenths of log-odds are fine enough: a cross-entropy is at most 5 % off its own value.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.data.decoding import decoder_message
from pipeline.data.image_files import png

TENTHS, ZERO = 127, 128  # the largest log-odds in tenths; the grey level of log-odds 0
LEVELS = 256
Levels = NDArray[np.uint8]  # [K, H, W] grey levels of the log-odds of every class
Values = NDArray[np.float64]


def levels_of(probabilities: NDArray[np.floating]) -> Levels:
    """Return the log-odds of probabilities [K, H, W] as grey levels."""
    share = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    tenths = np.rint(10 * (np.log(share) - np.log1p(-share)))
    return (np.clip(tenths, -TENTHS, TENTHS) + ZERO).astype(np.uint8)


def encode(levels: Levels) -> bytes:
    """Return the content of the file of grey levels [K, H, W]."""
    planes = levels[1:] if len(levels) == 2 else levels
    return png(planes.reshape(-1, planes.shape[-1]))


def read(path: Path, num_classes: int) -> Levels:
    """Return the grey levels [K, H, W] of a file that `encode` wrote. Raises UserError where it is damaged."""
    count = 1 if num_classes == 2 else num_classes
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            pixels = np.asarray(picture.convert("L"))
        planes = pixels.reshape(count, -1, pixels.shape[-1])
    except Exception as error:  # what a damaged file raises is up to Pillow's decoder
        raise UserError(f"{path} cannot be decoded ({decoder_message(error)}); run the stage score again") from error
    if num_classes > 2:
        return planes
    return np.concatenate([2 * ZERO - planes.astype(np.int16), planes]).astype(np.uint8)


def probabilities_of(levels: Levels) -> Values:
    """Return the probability of each class for grey levels of its log-odds, of any shape."""
    return np.exp(-cross_entropies()[levels])


def cross_entropies() -> Values:
    """Return -log p [256] of a pixel whose true class has log-odds of this grey level."""
    log_odds = (np.arange(LEVELS) - ZERO) / 10
    return np.log1p(np.exp(-log_odds))


def of_labels(levels: Levels, labels: NDArray[np.uint8]) -> Levels:
    """Return the grey levels [H, W] of the class that each pixel of a label map [H, W] has."""
    return np.take_along_axis(levels, labels[None].astype(np.intp), 0)[0]
