"""Small pairs drawn on disk: smooth random images that look like nothing else, masks with a rectangle."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.section import parse
from pipeline.stages.prepare.params import Data
from pipeline.study import Params
from tests.conftest import TOY_STUDY

WIDTH, HEIGHT = 40, 32


def picture(name: str, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A smooth image that only depends on the name."""
    rng = np.random.default_rng(list(name.encode()))
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def brighter(image: Image.Image, by: int) -> Image.Image:
    """The image, `by` grey levels brighter."""
    return Image.fromarray(np.minimum(np.asarray(image).astype(int) + by, 255).astype(np.uint8))


def rectangle(foreground: int = 255, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A mask whose upper left quarter is foreground."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, : width // 2] = foreground
    return mask


def save(path: Path, pixels: Image.Image | NDArray[np.uint8], **options: Any) -> Path:
    """Writes an image file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def pair(root: Path, stem: str, mask: NDArray[np.uint8] | None = None) -> None:
    """images/<stem>.png and masks/<stem>.png."""
    save(root / "images" / f"{stem}.png", picture(stem))
    save(root / "masks" / f"{stem}.png", rectangle() if mask is None else mask)


def folder(root: Path, **splits: str) -> Path:
    """A clean data set with split lists; every keyword names a split and its stems."""
    for split, stems in splits.items():
        for stem in stems.split():
            pair(root, stem)
        lists(root, **{split: stems})
    return root


def lists(root: Path, **splits: str) -> None:
    """splits/<split>.txt with one stem a line."""
    (root / "splits").mkdir(parents=True, exist_ok=True)
    for split, stems in splits.items():
        (root / "splits" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems.split()), encoding="utf-8")


def data(reader: str = "paired_folders", **values: Any) -> Data:
    """The section `data` of a study at 16 pixels."""
    return parse(Data, {"reader": reader, "size": 16, "prompt": "A photo of a square.", **values})


def study(reader: str = "paired_folders", **values: Any) -> Params:
    """A study of drawn pairs."""
    section = {"reader": reader, "size": 16, "prompt": "A photo of a square.", **values}
    return parse(Params, {**TOY_STUDY, "study": "drawn", "data": section})


def study_of_segmenters(**values: Any) -> Params:
    """A study without generators; a value None leaves a key of section data out."""
    shared = {key: TOY_STUDY[key] for key in ("seed", "threads", "segmenters", "segment")}
    section = {key: value for key, value in values.items() if value is not None}
    return parse(Params, {**shared, "study": "drawn", "data": section, "training_sets": {"real": {}}})
