"""The membership attacks in the report: a row per generator and score, with a sentence on what it means. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files

Record = Mapping[str, Any]
SHOWN = (0.05, 0.01)  # rates of false positives that the page has columns for
SEEN = {  # what an attacker needs for each score
    "loss": "weights",
    "pia": "weights",
    "pian": "weights",
    "secmi": "weights",
    "autoencoder": "weights of the base",
    "released": "synthetic images",
}


@dataclass(frozen=True)
class AttackRow:
    """One attack on one generator as the page shows it."""

    score: str
    needs: str
    members: int
    controls: int
    auc: float
    low: float | None
    high: float | None
    found: list[Record]  # for each of SHOWN: share, low, high; without a share the reason
    meaning: str


@dataclass(frozen=True)
class Attacks:
    """The attacks on one generator, and the scores that could not be computed, with the reason."""

    rows: list[AttackRow]
    absent: Record


def attacks(audit: Path) -> Attacks:
    """Return the attacks of an audit; none where the study asked for none, or the audit is older than they are."""
    path = audit / "membership.json"
    record = files.read_json(path) if path.is_file() else {"attacks": [], "absent": {}}
    return Attacks([_row(record, attack) for attack in record["attacks"]], record["absent"])


def _row(record: Record, attack: Record) -> AttackRow:
    by_rate = {one["false_positive_rate"]: one for one in attack["found"]}
    return AttackRow(
        attack["score"],
        SEEN[attack["score"]],
        record["members"],
        record["controls"],
        attack["auc"],
        attack["low"],
        attack["high"],
        [by_rate[rate] for rate in SHOWN],
        meaning(attack),
    )


def meaning(attack: Record) -> str:
    """Return what an AUC and its interval say, in a sentence."""
    low, high = attack["low"], attack["high"]
    if low is None or high is None:
        return f"No interval: {attack['interval_reason']}."
    if low > 0.5:
        return "The attack distinguishes training images from held-out images better than guessing."
    if high < 0.5:
        return "The attack ranks held-out images above training images, so the two sets differ in another way."
    return f"No difference from guessing was found; an AUC of up to {high:.2f} remains possible."
