"""How close the masks of `masks: learnt` come to real masks that the model has not seen, and how close to its own.

    python benchmarks/learnt_masks.py --masks FOLDER [--train 100] [--draw 200] [--size 64] [--picture FILE] [--json]

A folder of masks of one class (PNG) is divided at random: the model learns `--train` of them and is compared with all
others. Without a folder, masks of phantoms are used. The numbers of a mask are those of its whole foreground: the area
as a share of the image, the eccentricity of the ellipse with its second moments, its centre, and how rough the outline
is (its length in pixel edges over the root of the area). Each has a two-sample test of Kolmogorov and Smirnov; the test
of the training masks shows what the choice of these alone does. `--picture` shows drawn masks only.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.core import seeding
from pipeline.core.contracts import ConditioningMask
from pipeline.data import phantom
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.methods.masks import learnt, shapes
from pipeline.methods.masks._learnt_copies import Likeness
from pipeline.methods.masks._lesions import fitted_ellipse

Mask = NDArray[np.uint8]
NUMBERS = ("area", "eccentricity", "down", "right", "roughness")
PHANTOMS = 1000
COLUMNS, ROWS = 16, 6  # of the picture


def main() -> None:
    """Learns, draws, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, help="folder of PNG masks (default: phantoms)")
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--draw", type=int, default=200)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=learnt.Params().steps)
    parser.add_argument("--split", type=int, default=0, help="number of the random division")
    parser.add_argument("--picture", type=Path, help="file for a picture of drawn masks")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    masks = phantoms(arguments.size) if arguments.masks is None else read(arguments.masks, arguments.size)
    order = seeding.numpy_rng("benchmarks/learnt_masks", arguments.split).permutation(len(masks))
    chosen, held = ([masks[k] for k in part] for part in (order[: arguments.train], order[arguments.train :]))
    with tempfile.TemporaryDirectory() as folder:
        result = compare(written(Path(folder), chosen), held, arguments)
    for name, value in result.items():
        sys.stderr.write(f"{name}: {value}\n")
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")


def compare(train: ImageSet, held: Sequence[Mask], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return p of every number, shares of near-copies, and seconds."""
    params = learnt.Params(steps=arguments.steps)
    cpu, wall = time.process_time(), time.monotonic()
    sequence = learnt.build(params, train, arguments.draw, "0")
    learning = {"cpu_s_learn": round(time.process_time() - cpu, 1), "s_learn": round(time.monotonic() - wall, 1)}
    cpu = time.process_time()
    drawn = [*sequence]
    drawing = {"cpu_s_draw": round(time.process_time() - cpu, 1)}
    if arguments.picture:
        picture(drawn, arguments.picture)
    own = [train.mask(row) for row in train]
    smooth = shapes.build(shapes.Params(), train, arguments.draw, "0")
    sets = {"learnt": [m.pixels for m in drawn], "shapes": [m.pixels for m in smooth], "train": own}
    real = numbers(held)
    tests = {f"p_{name}": dict(zip(NUMBERS, tested(numbers(some), real), strict=True)) for name, some in sets.items()}
    likeness = sequence.make.likeness  # type: ignore[attr-defined]
    return {
        **vars(arguments) | {"masks": str(arguments.masks or "phantoms"), "picture": str(arguments.picture)},
        "held": len(held),
        **learning,
        **drawing,
        **tests,
        **{f"mean_{name}": means(some) for name, some in (sets | {"held": held}).items()},
        "limit": round(likeness.limit, 4),
        "alike_held": above(likeness, held),
        "alike_shapes": above(likeness, sets["shapes"]),
        "alike_learnt": above(likeness, sets["learnt"]),
        "alike_first_try": above(likeness, first_tries(sequence.make, arguments.draw)),
        "drawn_again": round(float(np.mean([mask.transform["try"] > 0 for mask in drawn])), 4),
        "cut": {name: cut(some) for name, some in (sets | {"held": held}).items()},
    }


def first_tries(drawer: Any, count: int) -> list[Mask]:
    """Return the first try of every mask, whether it was taken or not."""
    blocks = [range(start, min(start + 16, count)) for start in range(0, count, 16)]
    return [one.pixels for block in blocks for one in drawer.draw(block, 0)]


def numbers(masks: Sequence[Mask]) -> NDArray[np.float64]:
    """Return NUMBERS of every mask."""
    return np.array([_numbers(mask > 0) for mask in masks])


def _numbers(region: NDArray[np.bool_]) -> list[float]:
    ellipse = fitted_ellipse(1, region)
    edges = int((region[1:] != region[:-1]).sum() + (region[:, 1:] != region[:, :-1]).sum())
    eccentricity = math.sqrt(1 - ellipse.aspect**2)
    return [float(region.mean()), eccentricity, *ellipse.centre, edges / math.sqrt(region.sum())]


def tested(some: NDArray[np.float64], real: NDArray[np.float64]) -> list[float]:
    """Return p of the two-sample test of Kolmogorov and Smirnov for every number."""
    return [round(float(stats.ks_2samp(a, b).pvalue), 4) for a, b in zip(some.T, real.T, strict=True)]


def means(masks: Sequence[Mask]) -> list[float]:
    """Return the mean of every number."""
    return [round(float(value), 4) for value in numbers(masks).mean(0)]


def above(likeness: Likeness, masks: Sequence[Mask]) -> float:
    """Return the share of masks that are too alike to a training mask."""
    return round(float((likeness.nearest(masks) > likeness.limit).mean()), 4)


def cut(masks: Sequence[Mask]) -> float:
    """Return the share of masks that the frame cuts."""
    return round(float(np.mean([mask.sum() > mask[1:-1, 1:-1].sum() for mask in masks])), 4)


def read(folder: Path, size: int) -> list[Mask]:
    """Return the masks of a folder at a size, in the order of their names."""
    opened = (Image.open(path).convert("L") for path in sorted(folder.glob("*.png")))
    masks = [np.asarray(one.resize((size, size), Image.Resampling.NEAREST)) > 127 for one in opened]
    return [mask.astype(np.uint8) for mask in masks if mask.any()]


def phantoms(size: int) -> list[Mask]:
    """Return masks of phantoms."""
    streams = (seeding.numpy_rng("benchmarks/learnt_masks/phantom", number) for number in range(PHANTOMS))
    return [phantom.lesion_outline(stream, size).inside.astype(np.uint8) for stream in streams]


def written(folder: Path, masks: Sequence[Mask]) -> ImageSet:
    """Return a training set of these masks on black images."""
    size = len(masks[0])
    spec, image = DatasetSpec(name="masks", size=size), np.zeros((3, size, size), np.uint8)
    samples = (Sample(f"m{k:05d}", image, mask[None], "A mask.", "train") for k, mask in enumerate(masks))
    return ImageSet.create(folder, spec, ((sample, {}) for sample in samples))


def picture(drawn: Sequence[ConditioningMask], path: Path) -> None:
    """Write the first drawn masks side by side."""
    tiles = [np.pad(255 * (mask.pixels > 0).astype(np.uint8), 1, constant_values=128) for mask in drawn]
    rows = [np.concatenate(tiles[row * COLUMNS : (row + 1) * COLUMNS], 1) for row in range(ROWS)]
    Image.fromarray(np.concatenate(rows)).quantize(8).save(path, optimize=True)


if __name__ == "__main__":
    main()
