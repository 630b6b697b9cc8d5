"""Files of the membership attacks: what they achieve, and the scores of every image."""

from pathlib import Path
from typing import Any

from pipeline.core import files, tables
from pipeline.metrics.statistics.membership import Attack, Found
from pipeline.stages.audit.attacked import units_of
from pipeline.stages.audit.membership import Inference
from pipeline.stages.audit.params import Membership

Record = dict[str, Any]
COLUMNS = ("id", "member", "split", "group")


def write(work: Path, inference: Inference | None, settings: Membership | None) -> None:
    """Write membership.json and membership.csv; without attacks the one says so, and the other has no rows."""
    files.write_json(work / "membership.json", record(inference, settings))
    rows = [] if inference is None else image_rows(inference)
    tables.write_table(work / "membership.csv", rows, list(rows[0]) if rows else COLUMNS)


def record(inference: Inference | None, settings: Membership | None) -> Record:
    """Return the attacks with their intervals and what they rest on, as plain JSON."""
    if inference is None or settings is None:
        return {"attacks": [], "absent": {}}
    members, controls = inference.attacked.sets
    return {
        "members": len(members),
        "controls": len(controls),
        "member_groups": units_of(members).n_groups,
        "control_groups": units_of(controls).n_groups,
        "left_out": list(inference.attacked.left_out),
        "attacks": [_attack(name, attack) for name, attack in inference.attacks.items()],
        "absent": dict(inference.absent),
        **settings.model_dump(mode="json", exclude={"scores"}),
    }


def metrics(inference: Inference | None) -> Record:
    """Return the row of the attacks in metrics.json; nothing where there are none."""
    if inference is None:
        return {}
    return {"membership_auc": {name: attack.auc for name, attack in inference.attacks.items()}}


def _attack(name: str, attack: Attack) -> Record:
    interval = attack.interval
    return {
        "score": name,
        "auc": attack.auc,
        "low": interval.low,
        "high": interval.high,
        "interval_reason": interval.reason,
        "found": [_found(one) for one in attack.found],
    }


def _found(one: Found) -> Record:
    return {
        "false_positive_rate": one.rate,
        "allowed": one.allowed,
        "threshold": one.threshold,
        "share": one.share,
        "low": one.exact and one.exact.low,
        "high": one.exact and one.exact.high,
        "bootstrap_low": one.bootstrap and one.bootstrap.low,
        "bootstrap_high": one.bootstrap and one.bootstrap.high,
        "reason": one.reason,
    }


def image_rows(inference: Inference) -> list[Record]:
    """Return one row per attacked image, members first, with a column per score; larger means more like a member."""
    rows = []
    for number, images in enumerate(inference.attacked.sets):
        for place, row in enumerate(images):
            about = {"id": row["id"], "member": 1 - number, "split": row["split"], "group": row.get("group") or ""}
            rows.append(about | {name: f"{sides[number][place]:.9g}" for name, sides in inference.scores.items()})
    return rows
