"""The subgroups of the test images: which images belong to each level of a column of compare.subgroups."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.stages.compare.params import LESION_SIZE, SOURCE, Bands, column_of
from pipeline.stages.compare.results import Results

UNKNOWN = "unknown"  # level of images without a value
MOST_LEVELS = 20  # of one column; more are names rather than subgroups
MOST_NUMBERS = 10  # different numbers that may stand for categories, such as the numbers of sites
SIZES = ("none", "small", "medium", "large")  # levels of LESION_SIZE: without foreground, and its thirds


@dataclass(frozen=True)
class Level:
    """A subgroup: the test images with one value of a column, or with a value in one band."""

    column: str
    name: str
    images: NDArray[np.bool_]  # [images] in the order of Results.images["test"]
    definition: str = ""  # in words, where the name is not enough


def levels(subgroup: str | Bands, results: Results, attributes: Mapping[str, Mapping[str, str]]) -> list[Level]:
    """Return the levels of a column that hold a test image, `unknown` last; every image is in one of them.

    `attributes` holds the values by image id and column. Raises UserError where an image has no row, where a column of
    numbers has no edges, where a column with edges holds a value that is not a number, or where there are too many
    levels or only one.
    """
    column = column_of(subgroup)
    found = _lesion_sizes(results) if column == LESION_SIZE else _levels_of_values(subgroup, results, attributes)
    if len(found) == 1:
        raise UserError(
            f"compare.subgroups: all test images have the same {column} ({found[0].name}); remove it, because the table"
            " of arms says the same"
        )
    return found


def _levels_of_values(
    subgroup: str | Bands, results: Results, attributes: Mapping[str, Mapping[str, str]]
) -> list[Level]:
    column = column_of(subgroup)
    if column == SOURCE:
        values = [test_set for test_set, _ in results.images["test"]]
    else:
        values = [_value(attributes, column, image) for _, image in results.images["test"]]
    known = sorted({value for value in values if value})
    if isinstance(subgroup, Bands):
        numbers = {value: _number(value, column) for value in known}
        names = band_names(subgroup.edges)
        values = [value and names[int(np.digitize(numbers[value], subgroup.edges))] for value in values]
        return _levels(column, values, names)
    _check_categories(column, known)
    return _levels(column, values, known)


def band_names(edges: Sequence[float]) -> list[str]:
    """Return the names of the bands that ascending edges make; a value on an edge lies in the band above it."""
    ends = [f"{edge:g}" for edge in edges]
    between = [f"{low} to below {high}" for low, high in pairwise(ends)]
    return [f"below {ends[0]}", *between, f"{ends[-1]} or more"]


def _levels(column: str, values: Sequence[str], names: Sequence[str]) -> list[Level]:
    """Return the levels in the order of their names; images with an empty value, or named so, are unknown."""
    found = np.array([value or UNKNOWN for value in values])
    order = [*(name for name in names if name != UNKNOWN), UNKNOWN]
    return [Level(column, name, images) for name in order if (images := found == name).any()]


def _lesion_sizes(results: Results) -> list[Level]:
    """Divide the images with foreground into thirds by its area in the reference mask; equal areas stay together."""
    areas = np.array(results.areas.get("test", ()), float)
    if len(areas) != len(results.images["test"]) or np.isnan(areas).any():
        raise UserError(
            "compare.subgroups: lesion_size needs the column area of scores.csv; run the stage segment again"
        )
    edges = np.quantile(areas[areas > 0], [1 / 3, 2 / 3]) if (areas > 0).any() else np.zeros(2)
    places = np.where(areas > 0, 1 + np.digitize(areas, edges, right=True), 0)
    low, high = (f"{100 * edge:.3g} %" for edge in edges)
    definitions = (
        "no foreground",
        f"foreground up to {low} of the image",
        f"foreground above {low}, up to {high} of the image",
        f"foreground above {high} of the image",
    )
    return [
        Level(LESION_SIZE, name, images, definition)
        for place, (name, definition) in enumerate(zip(SIZES, definitions, strict=True))
        if (images := places == place).any()
    ]


def _value(attributes: Mapping[str, Mapping[str, str]], column: str, image: str) -> str:
    if image not in attributes:
        raise UserError(f"attributes.csv has no row of the test image {image!r}; run the stage prepare again")
    return attributes[image][column]


def _number(value: str, column: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f"compare.subgroups: {column} has edges, but holds {value!r}, which is no number; leave unknown values"
            " empty, or remove the edges"
        )
    return number


def _check_categories(column: str, known: Sequence[str]) -> None:
    """Raise UserError where the values are measurements, or more than there can be subgroups."""
    if len(known) > MOST_NUMBERS and all(map(_is_number, known)):
        raise UserError(
            f"compare.subgroups: {column} holds {len(known)} different numbers; give the edges of its bands, as in"
            f" {{column: {column}, edges: [40, 60]}}"
        )
    if len(known) > MOST_LEVELS:
        raise UserError(
            f"compare.subgroups: {column} holds {len(known)} different values, more than {MOST_LEVELS}; name a column"
            " with fewer"
        )


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
