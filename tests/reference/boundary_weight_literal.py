"""The boundary weight of DermoSegDiff, pixel by pixel, as its description reads."""

import math
from collections.abc import Sequence

Map = list[list[float]]


def boundary_weight(mask: Sequence[Sequence[int]], t: float, steps: int, gamma: float, extend: str) -> Map:
    """W of a mask of 0 and 1; the offset of the distance is the public code's, which must not matter."""
    height, width = len(mask), len(mask[0])
    border = extended(borders(mask), width) if extend == "paper" else borders(mask)
    if not border or sum(map(sum, mask)) <= height * width / 100:
        return [[1.0] * width for _ in range(height)]
    near = [[1.1415 * width - distance(row, column, border) for column in range(width)] for row in range(height)]
    low, high = min(map(min, near)), max(map(max, near))
    if low == high:
        return [[1.0] * width for _ in range(height)]
    power = (gamma * (steps - t) / steps) ** gamma
    return [[((value - low) / (high - low)) ** power for value in line] for line in near]


def borders(mask: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    """Foreground pixels with a background pixel beside, above or below them."""
    height, width, found = len(mask), len(mask[0]), set()
    for row in range(height):
        for column in range(width):
            around = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
            inside = [mask[r][c] for r, c in around if 0 <= r < height and 0 <= c < width]
            if mask[row][column] and 0 in inside:
                found.add((row, column))
    return found


def extended(border: set[tuple[int, int]], width: int) -> set[tuple[int, int]]:
    """Each border point drawn out by a hundredth of the width, rounded up, to the left and to the right."""
    reach = math.ceil(width / 100)
    drawn = {(row, column + step) for row, column in border for step in range(-reach, reach + 1)}
    return {(row, column) for row, column in drawn if 0 <= column < width}


def distance(row: int, column: int, border: set[tuple[int, int]]) -> float:
    """To the nearest border point."""
    return min(math.dist((row, column), point) for point in border)
