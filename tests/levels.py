"""How far two images are apart, in levels of a byte.

Two programs, batch sizes or processes sum in different orders, so their images differ by rounding: by less than half a
level as floats, and so by at most one level as bytes. Only two runs of one program on one machine are equal.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

ROUNDING = 0.5  # levels


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference of images in [0, 1]."""
    assert one.shape == other.shape
    return 255 * float((one.double() - other.double()).abs().max())


def bytes_apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """The largest difference of images in bytes."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())
