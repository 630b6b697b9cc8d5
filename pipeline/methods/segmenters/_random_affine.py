"""Random rotation, shift and scaling of pairs of two or three dimensions."""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class RandomAffine:
    """Draw a rotation in every plane, a shift and a factor along every axis, each uniform between its limits."""

    rotation: float  # radians
    shift: tuple[float, ...]  # cells along each axis
    scaling: float  # 0.15: factors 0.85 to 1.15

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Transform an image [C, *spatial] linearly and its label map [*spatial] by the nearest cell; fill with 0."""
        grid = F.affine_grid(self.matrix(mask.shape, rng)[None], [1, 1, *mask.shape], align_corners=False)
        turned = F.grid_sample(image[None], grid, align_corners=False)[0]
        labels = F.grid_sample(mask[None, None].float(), grid, mode="nearest", align_corners=False)[0, 0]
        return turned, labels.round().to(mask.dtype)

    def matrix(self, spatial: tuple[int, ...], rng: np.random.Generator) -> Tensor:
        """Return the matrix [n, n + 1] from cells of the new image to those of the old, in the units of affine_grid."""
        axes = len(spatial)
        turn = np.diag(1 / rng.uniform(1 - self.scaling, 1 + self.scaling, axes))
        for plane in combinations(range(axes), 2):
            turn = turn @ _rotation(axes, plane, rng.uniform(-self.rotation, self.rotation))
        side = np.array(spatial)
        moved = rng.uniform(-1, 1, axes) * np.array(self.shift) * 2 / side
        turn = turn * side[None, :] / side[:, None]  # cells are square, the units are not
        order = np.arange(axes)[::-1]  # affine_grid counts axes from the last
        matrix = np.concatenate([turn[np.ix_(order, order)], moved[order, None]], 1)
        return torch.from_numpy(matrix).float()


def _rotation(axes: int, plane: tuple[int, int], angle: float) -> np.ndarray:
    turn = np.eye(axes)
    turn[np.ix_(plane, plane)] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return turn
