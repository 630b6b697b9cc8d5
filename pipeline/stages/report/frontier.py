"""The frontier: what the images of each generator change in Dice, against how well an attack recognises its images.

Everything is read from what the other stages have published: the membership attacks of the audit, the comparison, and
the privacy that the generator's manifest records. No torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.stages.finetune import privacy_record
from pipeline.stages.finetune.params import OUTSIDE, GeneratorEntry
from pipeline.stages.report.bench_table import ROLES, copies_found, rounded

FILE = "frontier.csv"
OF_BASE = "autoencoder"  # the attack on the base, which the entries of a study share
NO_ATTACK = "no attack was run; audit.membership asks for one"
ONLY_BASE = "only the base was attacked (autoencoder)"
NO_ARM = "no training set holds its images"
DIFFERENCE = ("difference", "difference_low", "difference_high", "verdict")
Record = Mapping[str, Any]


@dataclass(frozen=True)
class FrontierRow:
    """One generator under one segmenter with one multiplier; None where a number was not measured.

    Of several training sets with one multiplier, the row is the one with the highest Dice on validation images.
    """

    generator: str
    segmenter: str | None
    training_set: str | None
    reference: str | None  # with which the training set is compared
    multiplier: int | None
    chosen: bool  # whether it has the highest Dice on validation images of all arms of the generator and segmenter
    epsilon: float | None  # None if the generator has no guarantee or if its guarantee is not known
    delta: float | None
    privacy_unit: str | None
    made_elsewhere: bool  # another program made the images, so that their privacy is not known
    attack: str | None  # the score with the highest AUC
    attacks: int  # of how many scores it is the highest
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    no_attack: str | None  # why there is no AUC
    difference: float | None  # in Dice to the reference, with its interval
    difference_low: float | None
    difference_high: float | None
    verdict: str | None
    no_arm: str | None  # why there is no difference
    suspects: int | None  # images that the audit suspects to be copies, of all images of the generator
    audited: int | None

    @property
    def epsilon_text(self) -> str:
        """Epsilon as the figure and the table show it: a number, none or not known."""
        if self.made_elsewhere:
            return "not known"
        return "none" if self.epsilon is None else f"{self.epsilon:.3g}"

    @property
    def is_drawn(self) -> bool:
        """Whether the figure shows the row: the arm that validation chose, with an AUC and a difference."""
        return self.chosen and self.auc is not None and self.difference is not None


def frontier_rows(study: str, generators: Mapping[str, GeneratorEntry], comparison: Record) -> list[FrontierRow]:
    """Return the rows of all generators in the order of params.yaml, each by segmenter and multiplier.

    A generator whose images no training set holds has one row, which says so.
    """
    rows = []
    for name, entry in generators.items():
        about = _privacy(study, name, entry) | _attack(study, name) | copies_found(study, name)
        rows += [FrontierRow(generator=name, **arm, **about) for arm in _arms(name, comparison)]
    return rows


def shown_rows(study: str, generators: Mapping[str, GeneratorEntry], comparison: Record) -> list[FrontierRow]:
    """Return the rows that the page shows: all, or none where no generator has been attacked."""
    rows = frontier_rows(study, generators, comparison)
    return rows if any(row.auc is not None for row in rows) else []


def write_frontier(path: Path, rows: Sequence[FrontierRow]) -> None:
    """Write the rows as CSV with six significant digits; the header alone where there is none."""
    tables.write_table(path, [_line(row) for row in rows], [field.name for field in fields(FrontierRow)])


def _line(row: FrontierRow) -> dict[str, Any]:
    values = asdict(row) | ({} if row.epsilon is not None else {"epsilon": row.epsilon_text})
    return {key: rounded(value) for key, value in values.items()}


def _arms(generator: str, comparison: Record) -> Iterator[dict[str, Any]]:
    """Yield what the rows of a generator say of its arms."""
    arms = [arm for arm in comparison["arms"] if arm["generator"] == generator and arm["role"] in ROLES]
    if not arms:
        keys = ("segmenter", "training_set", "reference", "multiplier", *DIFFERENCE)
        yield dict.fromkeys(keys) | {"chosen": False, "no_arm": NO_ARM}
    for segmenter in dict.fromkeys(arm["segmenter"] for arm in arms):
        own = [arm for arm in arms if arm["segmenter"] == segmenter]
        best = best_on_validation(own)
        for multiplier in sorted({arm["multiplier"] for arm in own}):
            arm = best_on_validation([one for one in own if one["multiplier"] == multiplier])
            about = {key: arm[key] for key in ("segmenter", "training_set", "multiplier")}
            numbers = {key: arm.get(key) for key in ("reference", *DIFFERENCE)}
            yield about | numbers | {"chosen": arm is best, "no_arm": None}


def best_on_validation(arms: Sequence[Record]) -> Record:
    """Return the arm with the highest Dice on validation images, the first of equal ones."""
    return max(arms, key=lambda arm: arm["val_dice"])


def _privacy(study: str, generator: str, entry: GeneratorEntry) -> dict[str, Any]:
    record = privacy_record.read(paths.generator(study, generator)) or {}
    return {
        "epsilon": record.get("epsilon"),
        "delta": record.get("delta"),
        "privacy_unit": record.get("unit"),
        "made_elsewhere": entry.method_of(generator) in OUTSIDE,
    }


def _attack(study: str, generator: str) -> dict[str, Any]:
    """Return the attack on the generator with the highest AUC, or why there is none; attacks on the base are left out.

    The highest one is the cautious choice: it names the largest leak that was found.
    """
    path = paths.audit(study, generator) / "membership.json"
    record = files.read_json(path) if path.is_file() else {"attacks": [], "absent": {}}
    found = [attack for attack in record["attacks"] if attack["score"] != OF_BASE]
    if not found:
        values = dict.fromkeys(("attack", "auc", "auc_low", "auc_high"))
        return values | {"attacks": 0, "no_attack": _no_attack(record)}
    best = max(found, key=lambda attack: attack["auc"])
    numbers = {"auc": best["auc"], "auc_low": best["low"], "auc_high": best["high"]}
    return numbers | {"attack": best["score"], "attacks": len(found), "no_attack": None}


def _no_attack(record: Record) -> str:
    absent = {score: reason for score, reason in record["absent"].items() if score != OF_BASE}
    if absent:
        return "; ".join(f"{score}: {reason}" for score, reason in absent.items())
    return ONLY_BASE if record["attacks"] or record["absent"] else NO_ATTACK
