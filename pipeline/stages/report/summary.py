"""The numbers of a study that `dvc metrics show` prints: few enough for one row of a terminal."""

from collections.abc import Mapping
from typing import Any

from pipeline.stages.mix.params import TrainingSet

Record = dict[str, Any]
COMPARED = ("reference", "arm", "rival")  # roles of training sets that are shown; controls stand in the report
NONE = "none"  # in the place of a verdict: nothing was compared


def summary(comparison: Record, scores: Mapping[str, Record], training_sets: Mapping[str, TrainingSet]) -> Record:
    """Return the verdict, the Dice of every training set that is compared, and what the verdict's generator scored.

    The segmenter is that of the verdict; where segmenters are compared with each other, each has its Dice on the
    reference. Faithfulness and FID are left out where they were not measured.
    """
    claim = comparison.get("headline")
    if claim is None:
        rows = [row for row in comparison["arms"] if row["role"] == "reference"]
        dice, generator = {row["segmenter"]: row["dice"] for row in rows}, None
    else:
        rows = [row for row in comparison["arms"] if row["segmenter"] == claim["segmenter"]]
        dice = {row["training_set"]: row["dice"] for row in rows if row["role"] in COMPARED}
        generator = training_sets[claim["training_sets"][0]].generator
    more = {name: scores.get(generator or "", {}).get(name) for name in ("faithfulness", "fid")}
    result: Record = {"verdict": claim["verdict"] if claim else NONE}
    result |= {name: value for name, value in more.items() if isinstance(value, float)}
    return result | {f"dice of {name}" if name in result else name: value for name, value in dice.items()}
