"""The boundary weight of DermoSegDiff: which pixels count when the noise of a mask is learned. No torch.

W = N^p(t). N is 1 on the border of the true mask and falls to 0 at the pixel farthest from it; the exponent p(t) =
(gamma (T - t) / T)^gamma makes W uniform towards t = T. The paper prints no formula; this is what the authors' public
code computes, but for the border: there an edge detector puts it half a pixel to the left and above, here it is the
mask's own outermost pixels. Their constant 1.1415 (of the image's side) in the distance cancels, since the map is
brought to [0, 1].
"""

import math
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Extend = Literal["none", "paper"]
GAMMA = 0.2
LEAST = 0.01  # masks of at most this share of the image weigh all pixels alike, as in the public code
Weights = NDArray[np.float32]


def boundary_weight(mask: NDArray[Any], t: float, steps: int, gamma: float = GAMMA, extend: Extend = "none") -> Weights:
    """Return W of a binary mask [H, W] at timestep t of `steps`; ones where it has no border or almost no pixel."""
    return nearness(mask, extend) ** np.float32(exponent(t, steps, gamma))


def exponent(t: Any, steps: int, gamma: float = GAMMA) -> Any:
    """Return p(t) of a number, an array or a tensor of timesteps: falls to 0 as t comes near `steps`."""
    return (gamma * (steps - t) / steps) ** gamma


def nearness(mask: NDArray[Any], extend: Extend = "none") -> Weights:
    """Return N = 1 - D / max D [H, W], D the distance to the nearest border pixel; ones without a usable border."""
    mask = np.asarray(mask) > 0
    return _nearness(np.packbits(mask).tobytes(), mask.shape, extend)


@lru_cache(maxsize=2048)
def _nearness(packed: bytes, shape: tuple[int, int], extend: Extend) -> Weights:
    """Compute `nearness` of a packed mask; cached, as a training mask returns every epoch, in at most eight turns."""
    mask = np.unpackbits(np.frombuffer(packed, np.uint8), count=math.prod(shape)).reshape(shape).astype(bool)
    border = extended(outermost(mask)) if extend == "paper" else outermost(mask)
    tells = bool(border.any()) and mask.mean() > LEAST
    distance = np.asarray(distance_transform_edt(~border) if tells else np.zeros(shape))
    weights = (1 - distance / max(float(distance.max()), 1e-6)).astype(np.float32)
    weights.flags.writeable = False
    return weights


def outermost(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask's pixels with background left, right, above or below; the frame of the image is not a border."""
    around = np.pad(mask, 1, mode="edge")
    inside = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return mask & ~inside


def extended(border: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Widen the border within its rows by a hundredth of the width, rounded up, to both sides (the paper's text)."""
    reach = math.ceil(border.shape[1] / 100)
    padded = np.pad(border, ((0, 0), (reach, reach)))
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1).any(-1))
