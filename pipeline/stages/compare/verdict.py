"""From numbers to words: the verdict on each arm, and the one sentence that a study ends in."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from pipeline.stages.compare.params import Compare

Row = Mapping[str, Any]


class Verdict(StrEnum):
    """What the data say about an arm."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"  # the difference surely lies within the margin
    INCONCLUSIVE = "inconclusive"


OPENINGS = {
    Verdict.BETTER: "Synthetic data helped:",
    Verdict.WORSE: "Synthetic data hurt:",
    Verdict.EQUIVALENT: "Synthetic data made no difference that matters:",
    Verdict.INCONCLUSIVE: "Inconclusive:",
}


def decide(row: Row, settings: Compare) -> Verdict:
    """Equivalent where two one-sided tests place it within +-margin; better or worse where both adjusted p say so.

    Both: that of seeds and images, and that of images alone (sign flips). One seed decides nothing.
    """
    low, high, level = row["difference_low"], row["difference_high"], 1 - settings.confidence
    if row["n_seeds"] < 2 or row["n_images"] < 2:
        return Verdict.INCONCLUSIVE
    if row["p_equivalent"] < level:
        return Verdict.EQUIVALENT
    if low <= 0 <= high or max(row["p_holm"], row["p_images_holm"]) >= level:
        return Verdict.INCONCLUSIVE
    return Verdict.BETTER if row["difference"] > 0 else Verdict.WORSE


def headline(arms: Sequence[Row]) -> Row | None:
    """The arm that the sentence speaks of: the largest gain on validation images; None where no arm is synthetic."""
    candidates = [row for row in arms if row["role"] == "arm"]
    return max(candidates, key=lambda row: row["val_difference"], default=None)


def sentence(arms: Sequence[Row], settings: Compare) -> str:
    """The verdict of a study. A control arm that differs from the reference withdraws every claim."""
    row = headline(arms)
    if row is None:
        return "Inconclusive: no training set holds synthetic images."
    own = [c for c in arms if c["role"] == "control" and c["segmenter"] == row["segmenter"]]
    failed = [c for c in own if c["verdict"] in (Verdict.BETTER, Verdict.WORSE)]
    verdict = Verdict.INCONCLUSIVE if failed else Verdict(row["verdict"])
    return " ".join([OPENINGS[verdict], _numbers(row, settings), *_caveats(row, failed, settings)])


def _numbers(row: Row, settings: Compare) -> str:
    points = [100 * row[key] for key in ("difference", "difference_low", "difference_high")]
    seeds = f"{row['n_seeds']} seed{'s' if row['n_seeds'] != 1 else ''}"
    return (
        f"{row['segmenter']}, {row['training_set']} {points[0]:+.1f} Dice points [{points[1]:.1f}, {points[2]:.1f}]"
        f" over {settings.reference} (n = {row['n_images']} images, {seeds})."
    )


def _caveats(row: Row, failed: Sequence[Row], settings: Compare) -> list[str]:
    notes = []
    if row["n_seeds"] < 2:
        notes.append("One seed cannot tell an effect from chance.")
    for control in failed:
        gap = f"{100 * control['difference']:+.1f} points"
        notes.append(f"The control {control['training_set']}, trained on the same images, differs too ({gap}).")
    if (
        row["verdict"] == Verdict.INCONCLUSIVE
        and row["n_seeds"] > 1
        and not row["difference_low"] <= 0 <= row["difference_high"]
    ):
        notes.append(
            f"The interval leaves out 0, but not after the correction for several arms (p = {_largest(row):.2g})."
        )
    return notes


def _largest(row: Row) -> float:
    return max(row["p_holm"], row["p_images_holm"])
