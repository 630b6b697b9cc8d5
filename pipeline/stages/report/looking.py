"""Where segmenters look: pictures of Grad-CAM, and the boundary weight of DermoSegDiff over time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import paths
from pipeline.data.image_set import ImageSet
from pipeline.diffusion.boundary_weight import GAMMA, boundary_weight, exponent
from pipeline.stages.report import figures, pictures
from pipeline.stages.report.drawing import Drawing
from pipeline.study import Params

Pixels = NDArray[np.uint8]
MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the process, as shares of its last timestep
STEPS = 250  # of the process where the entry does not tell
GAP = 2  # pixels between maps


@dataclass(frozen=True)
class Seen:
    """A test image, its true mask, the predicted one, and the heatmap on it."""

    id: str
    picture: str  # data URI


@dataclass(frozen=True)
class Weighted:
    """The boundary weight of one training mask at several moments."""

    segmenter: str
    moments: str  # in words
    picture: str  # data URI: the mask, then a map per moment


def heatmaps(params: Params, side: int = pictures.SIDE) -> dict[str, list[Seen]]:
    """By segmenter, what it looks at in a few test images; none where segment.heatmap_images is 0."""
    found = {name: list(_pictures(params, name)) for name in params.segmenters}
    return {
        name: [Seen(label, pictures.photo(pixels, side)) for label, pixels in seen]
        for name, seen in found.items()
        if seen
    }


def weights(params: Params, side: int = pictures.SIDE) -> list[Weighted]:
    """The boundary weight on the training mask of middling size, of each segmenter that learns with one."""
    told = ", ".join(f"{moment:g} T" for moment in MOMENTS)
    return [Weighted(name, told, pictures.photo(maps(params, name), side)) for name in _bounded(params)]


def weight_drawings(params: Params) -> Iterator[Drawing]:
    """The same as curves over the distance from the border."""
    near = np.linspace(1, 0, 101)
    for name, own in _bounded(params).items():
        steps, gamma = _process(own)
        moments = {f"t = {moment:g} T": moment * (steps - 1) for moment in MOMENTS}
        yield figures.boundary_weight(name, {label: near ** exponent(t, steps, gamma) for label, t in moments.items()})


def sheets(params: Params) -> dict[str, Pixels]:
    """All pictures of each segmenter [H, W, 3], for papers, by the names of their files."""
    found = {f"boundary_weight_maps_{name}": maps(params, name) for name in _bounded(params)}
    for name in params.segmenters:
        if rows := [np.pad(one, ((0, GAP), (0, 0), (0, 0)), constant_values=255) for _, one in _pictures(params, name)]:
            found[f"heatmaps_{name}"] = np.concatenate(rows)[:-GAP]
    return found


def maps(params: Params, segmenter: str) -> Pixels:
    """[H, W', 3] a training mask and its boundary weight at MOMENTS, side by side; white is 1."""
    own = _bounded(params)[segmenter]
    steps, gamma = _process(own)
    train = ImageSet.open(paths.real(params.study)).split("train")
    masks = sorted((train.mask(row) > 0 for row in train), key=lambda mask: float(mask.mean()))
    mask = masks[len(masks) // 2]
    drawn = [mask, *(boundary_weight(mask, m * (steps - 1), steps, gamma, own.get("extend", "none")) for m in MOMENTS)]
    cells = [np.pad((255 * one).round().astype(np.uint8), ((0, 0), (0, GAP)), constant_values=160) for one in drawn]
    return np.concatenate(cells, 1)[:, :-GAP, None].repeat(3, -1)


def _bounded(params: Params) -> dict[str, dict[str, Any]]:
    """The own keys of the entries of DermoSegDiff with loss B."""
    entries = {name: entry for name, entry in params.segmenters.items() if (entry.method or name) == "dermosegdiff"}
    return {name: entry.own for name, entry in entries.items() if entry.own.get("loss", "B") == "B"}


def _process(own: dict[str, Any]) -> tuple[int, float]:
    return own.get("train_steps", STEPS), own.get("gamma", GAMMA)


def _pictures(params: Params, segmenter: str) -> Iterator[tuple[str, Pixels]]:
    folder = paths.segmentation(params.study, segmenter) / "heatmaps" / params.compared_on
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            yield path.stem, np.asarray(picture.convert("RGB"))
