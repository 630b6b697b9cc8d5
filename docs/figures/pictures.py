"""Pictures of methods, made by the code that they explain on procedural images."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import plugins
from pipeline.data import phantom
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.methods.conditioning import canny, mask, mask_boundary
from pipeline.methods.features import gradient_histograms
from pipeline.metrics.images import copies
from pipeline.stages.audit.copy_search import Thumbnails

LOOK = phantom.Difficulty(faintness=0.4, distractors=2)
BLUE, ORANGE, GREY = "#3b82c4", "#d9822b", "#7f8792"
KINDS = {"exact": "o", "mirrored": "s", "40 levels brighter": "^", "JPEG, quality 75": "D", "2 pixels shifted": "v"}


def panels(pictures: Sequence[NDArray[np.float32]], titles: Sequence[str]) -> Figure:
    """One row of pictures [H, W, 3] in [0, 1]."""
    figure = Figure(figsize=(1.75 * len(pictures), 1.95), layout="constrained")
    for axes, picture, title in zip(figure.subplots(1, len(pictures)), pictures, titles, strict=True):
        show(axes, picture, title)
    return figure


def show(axes: Axes, picture: NDArray[np.float32], title: str = "") -> None:
    """One picture without axes."""
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=8)


def hints() -> Figure:
    """An image, its mask, and what each conditioning makes of them."""
    pixels, labels = phantom.draw("docs/hints", 128, LOOK, instrument=False)
    image, masks = torch.from_numpy(pixels)[None].float() / 255, torch.from_numpy(labels)[None]
    drawn = {
        "image": image,
        "mask": mask.build(mask.Params(), 2)(masks),
        "mask_boundary": mask_boundary.build(mask_boundary.Params(), 2)(masks),
        "canny": canny.build(canny.Params(low=40, high=80), 2)(masks, image),
        "canny, inside": canny.build(canny.Params(low=40, high=80, inside=True), 2)(masks, image),
        "canny, no mask": canny.build(canny.Params(low=40, high=80, over_mask=False), 2)(masks, image),
    }
    return panels([hint[0].permute(1, 2, 0).numpy() for hint in drawn.values()], list(drawn))


def masks() -> Figure:
    """Training masks with a lesion and an instrument, and the masks that are made from them."""
    count, columns = 4, ("training mask (real)", "random", "random", "elastic", "elastic", "shapes", "shapes")
    figure = Figure(figsize=(1.3 * len(columns), 1.42 * count), layout="constrained")
    grid = figure.subplots(count, len(columns))
    colours = mask.palette(3).numpy()
    with tempfile.TemporaryDirectory() as folder:
        spec = DatasetSpec(name="phantom", size=96, num_classes=3)
        train = ImageSet.create(Path(folder), spec, ((sample, {}) for sample in training(count)))
        for column, title in enumerate(columns):
            method = title.split()[0] if column else "real"
            plugin = plugins.load("masks", method)
            made = plugin.build(plugin.Params(), train, 2 * count, "docs/masks")
            offset = count if column and columns[column - 1] == title else 0
            for row in range(count):
                show(grid[row][column], colours[made[row + offset].pixels], "" if row else title)
    return figure


def training(count: int) -> Iterator[Sample]:
    """Phantoms with an instrument in most."""
    for number in range(count):
        image, labels = phantom.draw(f"docs/masks/{number}", 96, LOOK, instrument=True)
        yield Sample(f"case_{number}", image, labels[None], "A photo of a polyp.", "train", "phantom")


def audit() -> Figure:
    """How close planted copies and fresh images come to training images, in units of held-out images."""
    train, held, fresh = (pictures(split, count) for split, count in (("train", 96), ("held", 128), ("fresh", 120)))
    calibration = copies.calibrate(statistics(held, train), rate=0.01)
    figure = Figure(figsize=(6.6, 3.9), layout="constrained")
    axes = figure.subplots()
    for images, name, style in (
        (held, "held-out images (calibrate)", {"marker": ".", "color": GREY}),
        (fresh, "fresh images", {"marker": "x", "color": BLUE}),
    ):
        axes.scatter(*calibration.closeness(statistics(images, train)).T, s=16, label=name, lw=0.9, **style)
    for kind, marker in KINDS.items():
        plants = np.stack([planted(image, kind) for image in train[:24]])
        places = calibration.closeness(statistics(plants, train)).T
        axes.scatter(*places, s=16, marker=marker, fc="none", ec=ORANGE, lw=0.9, label=f"copies: {kind}")
    along = np.linspace(-4, 800, 20_000)
    axes.plot(along, calibration.threshold - along, color="#333", ls="--", lw=1)
    axes.text(16, -3.4, "suspects lie beyond the line", fontsize=8)
    axes.set_xscale("symlog", linthresh=5)
    axes.set_yscale("symlog", linthresh=5)
    axes.set(xlim=(-4, 150), ylim=(-5, 800))
    axes.set(xlabel="closeness in pixels", ylabel="closeness in gradient histograms")
    axes.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def pictures(split: str, count: int) -> NDArray[np.uint8]:
    """[N, 3, 64, 64]."""
    return np.stack([phantom.draw(f"docs/audit/{split}/{k}", 64, LOOK, instrument=False)[0] for k in range(count)])


def statistics(images: NDArray[np.uint8], train: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[N, 2]: pixels, then one feature space."""
    thumbnails, histograms = Thumbnails(), gradient_histograms.build()
    both = [torch.from_numpy(np.ascontiguousarray(rows)) for rows in (images, train)]
    pixels = copies.nearest_pixels(*(thumbnails(rows) for rows in both))
    features = copies.nearest_features(*(histograms(rows) for rows in both), neighbours=50)
    return np.stack([pixels.statistic, features.statistic], axis=1)


def planted(image: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    """A copy that was changed in one way."""
    if kind == "mirrored":
        return image[:, :, ::-1]
    if kind == "40 levels brighter":
        return np.minimum(image.astype(int) + 40, 255).astype(np.uint8)
    if kind == "2 pixels shifted":
        return np.pad(image, ((0, 0), (0, 0), (2, 0)), mode="edge")[:, :, :-2]
    if kind == "exact":
        return image
    stored = io.BytesIO()
    Image.fromarray(np.moveaxis(image, 0, -1)).save(stored, "JPEG", quality=75)
    return np.moveaxis(np.asarray(Image.open(stored)), -1, 0)
