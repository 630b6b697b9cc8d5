"""Diagrams of methods: boxes, arrows and curves."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from scipy import stats

from pipeline.data import phantom
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.verdict import decide

BLUE, ORANGE, GREEN, VIOLET, GREY = "#3b82c4", "#d9822b", "#2f9e77", "#b55fa8", "#7f8792"
TRAINED, FROZEN, LOSS = "#d6e6f5", "#ececec", "#fae3c8"
Point = tuple[float, float]


def box(axes: Axes, corner: Point, size: Point, text: str, colour: str) -> None:
    """A box with its text in the middle."""
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=0.8", fc=colour, ec="#555"))
    axes.text(corner[0] + size[0] / 2, corner[1] + size[1] / 2, text, ha="center", va="center", linespacing=1.35)


def arrow(axes: Axes, start: Point, end: Point, text: str = "", dashed: bool = False, above: float = 1.0) -> None:
    """An arrow with a word above its middle; dashed ones carry no gradient."""
    line = "--" if dashed else "-"
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, lw=1.1, ls=line, color="#333"))
    if text:
        axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + above, text, ha="center", va="bottom")


def siamese_step() -> Figure:
    """One training step of Siamese-Diffusion."""
    figure = Figure(figsize=(10.4, 5.2))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 120), ylim=(0, 60))
    axes.set_axis_off()
    image, labels = phantom.draw("docs/siamese", 64, phantom.Difficulty(0.4, 2), instrument=False)
    for picture, bottom, name in ((labels * 255, 43, "mask"), (np.moveaxis(image, 0, -1), 29, "image")):
        axes.imshow(picture, extent=(2, 12, bottom, bottom + 10), cmap="gray", aspect="auto", interpolation="nearest")
        axes.text(7, bottom - 2.4, name, ha="center")
        arrow(axes, (12.5, bottom + 5), (16.5, bottom + 5))
    axes.set(xlim=(0, 120), ylim=(0, 60))
    box(axes, (17, 30), (14, 22), "Dense\nHint Input\n\ntrained, one\nfor both", TRAINED)
    box(axes, (37, 30), (14, 22), "ControlNet\n\ntrained, one\nfor both", TRAINED)
    arrow(axes, (31, 48), (36.7, 48))
    arrow(axes, (31, 34), (36.7, 34))
    box(axes, (2, 6), (17, 10), "noisy latents $z_t$,\ntimestep t, prompt", "white")
    box(axes, (33, 6), (22, 10), "U-Net: encoder and middle\nfrozen, run once", FROZEN)
    arrow(axes, (19, 11), (32.7, 11))
    arrow(axes, (19, 15), (36.7, 31))
    box(axes, (70, 43), (15, 9), "decoder\ntrained", TRAINED)
    box(axes, (70, 25), (15, 9), "the same decoder,\nweights detached", FROZEN)
    arrow(axes, (51, 48), (69.7, 48), "$c_m$")
    axes.text(60.5, 30.4, "+", ha="center", va="center", fontsize=15)
    arrow(axes, (51, 33), (58.8, 30.6), "$w_i\\,c_i$", above=1.2)
    arrow(axes, (60.5, 47.5), (60.5, 32.2), dashed=True)
    axes.text(61.2, 38, "stopped\ngradient", va="center", fontsize=8)
    arrow(axes, (62, 30), (69.7, 30))
    arrow(axes, (55, 13), (72, 24.6))
    arrow(axes, (55, 14), (71, 42.6))
    losses(axes)
    return figure


def losses(axes: Axes) -> None:
    """The right side of the step: predictions and what they are compared with."""
    rows = [
        (46, r"$L_m$: $\epsilon_m$ against the noise"),
        (34, r"$L_c$: $\epsilon_m$ against $\epsilon_x$," + "\nstopped gradient"),
        (22, r"$L_i$: $\epsilon_x$ against the noise"),
        (4, "$L_a$: the mask branch\nagainst the noise"),
    ]
    for bottom, text in rows:
        box(axes, (97, bottom), (21, 7), text, LOSS)
    arrow(axes, (85, 48.5), (96.7, 49.5), r"$\epsilon_m$")
    arrow(axes, (85, 46), (96.7, 39))
    arrow(axes, (85, 30), (96.7, 36), dashed=True)
    arrow(axes, (85, 28), (96.7, 26), r"$\epsilon_x$", above=0.8)
    box(
        axes, (66, 3), (24, 11), "late, and where t is small:\nclean latents from $\\epsilon_x$,\nnoised again", "white"
    )
    arrow(axes, (80, 24.6), (80, 14.4), dashed=True)
    arrow(axes, (90, 8), (96.7, 7.5))


def siamese_schedule() -> Figure:
    """The weight of the image's control over training, and which timesteps are augmented."""
    figure = Figure(figsize=(8.6, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = 3000
    left.axvspan(steps / 3, steps, color=ORANGE, alpha=0.16, lw=0)
    left.plot([0, steps], [0, 1], color=BLUE)
    left.text(steps * 0.97, 0.06, "online augmentation", ha="right")
    left.set(xlabel="optimiser step k of N = 3000", ylabel="weight of the image's control, $w_i$", ylim=(0, 1.02))
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2  # Stable Diffusion 1.5
    signal = np.cumprod(1 - betas)
    right.axvspan(0, 200, color=ORANGE, alpha=0.16, lw=0)
    right.plot(np.sqrt(signal), color=BLUE)
    right.plot(np.sqrt(1 - signal), color=GREY, ls="--")
    right.text(610, 0.42, "share of the clean latents", color="#1d4f7c")
    right.text(610, 0.81, "share of the noise", color="#555")
    right.text(8, 0.03, "augmented:\nt up to 200")
    right.set(xlabel="timestep t (Stable Diffusion 1.5)", ylim=(0, 1.02), xlim=(0, 1000))
    return figure


def multipliers() -> Figure:
    """Training sets x1, x2, x4 of the demo: what they hold."""
    figure = Figure(figsize=(7.4, 2.5), layout="constrained")
    axes = figure.subplots()
    arms, real = (("real", 0), ("siamese_x1", 1), ("siamese_x2", 2), ("siamese_x4", 4)), 96
    axes.barh([name for name, _ in arms], real, color=GREY, label="real images")
    for copy in range(4):
        sizes = [real if copy < multiplier else 0 for _, multiplier in arms]
        axes.barh(
            [name for name, _ in arms], sizes, left=real * (1 + copy), color=BLUE, alpha=0.9 - 0.18 * copy, ec="white"
        )
        axes.text(
            real * (1.5 + copy), 3, f"copy {copy}", ha="center", va="center", color="white" if copy < 3 else "black"
        )
    axes.text(real / 2, 3, "real", ha="center", va="center", color="white")
    for row, (_, multiplier) in enumerate(arms):
        axes.text(real * (1 + multiplier) + 8, row, "80 steps", va="center", fontsize=8)
    axes.set(xlabel="images in the training set", xlim=(0, 560))
    axes.invert_yaxis()
    return figure


def screening() -> Figure:
    """Faithfulness of the demo's images and what two rules keep of them."""
    with (Path(__file__).parent / "demo_dice.csv").open(encoding="utf-8", newline="") as file:
        dice = np.sort([float(row["dice"]) for row in csv.DictReader(file)])[::-1]
    kept = dice[: int(0.8 * len(dice))]
    figure = Figure(figsize=(7.4, 2.6), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(0, 1, 51).tolist()
    axes.hist(dice, bins=bins, color=FROZEN, ec=GREY, hatch="///", label=f"dropped: {len(dice) - len(kept)} images")
    axes.hist(kept, bins=bins, color=BLUE, ec="white", label=f"kept by screen: 0.8: {len(kept)} images")
    axes.axvline(0.5, color=ORANGE, ls="--", label=f"screen_min_dice: 0.5 would drop {int((dice < 0.5).sum())}")
    axes.set(xlabel="Dice of the judge's prediction with the mask", ylabel="synthetic images", xlim=(0, 1))
    axes.legend(loc="upper left")
    return figure


def verdicts() -> Figure:
    """Intervals of the difference, and the word that the code has for each (made-up numbers)."""
    settings = Compare(reference="real", margin=0.01)
    made_up = ((0.025, 0.008), (0.012, 0.010), (0.001, 0.0035), (0.005, 0.003), (-0.004, 0.012), (-0.027, 0.009))
    figure = Figure(figsize=(7.4, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-1, 1, color=GREEN, alpha=0.14, lw=0)
    axes.axvline(0, color=GREY, lw=1)
    for row, (difference, error) in enumerate(made_up):
        spread = error / 1.96
        p = 2 * stats.norm.sf(abs(difference) / spread)
        outside = float(stats.norm.sf((settings.margin - abs(difference)) / spread))
        sizes = {"n_images": 128, "n_seeds": 5, "n_units": 128}
        evidence = Evidence(difference, difference - error, difference + error, p, p, outside, **sizes)
        axes.errorbar(100 * difference, row, xerr=100 * error, color="#333", marker="o", ms=4, capsize=3)
        axes.text(4.2, row, str(decide(evidence, p, outside, settings)), va="center")
    axes.text(0, -0.75, "margin", ha="center", color="#1d6b50")
    axes.set(xlabel="Dice points, arm minus reference", xlim=(-5, 8), ylim=(5.6, -1.1), yticks=[])
    axes.spines["left"].set_visible(False)
    return figure
