"""Files of an audit: a summary, one row per image, and a picture of the closest pairs."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import files, tables
from pipeline.data.image_set import png
from pipeline.metrics.images.copies import FLIPS, wilson_interval
from pipeline.stages.audit.audit import PIXELS, Findings
from pipeline.stages.audit.params import Audit as Settings

Row = dict[str, Any]
CELL, GAP, FRAME = 96, 6, 3  # pixels of a picture, between pictures, and of the frame of a suspect
RED, PAPER = (204, 51, 51), (238, 238, 238)
PER_LINE = 4  # pairs
STATISTIC = "share of pairs in which the first copy of a mask is closer to the training images than a held-out image"


def publish_audit(target: Path, work: Path, found: Findings, settings: Settings) -> None:
    """Writes audit.json, metrics.json, images.csv, suspects.csv and closest.png into `work` and publishes them."""
    record, rows = summary(found, settings), image_rows(found)
    files.write_json(work / "audit.json", record)
    tables.write_metrics(
        work / "metrics.json", {key: record[key] for key in ("suspects", "share", "near_share", "near_p")}
    )
    tables.write_table(work / "images.csv", rows)
    tables.write_table(work / "suspects.csv", [row for row in rows if row["suspect"]], list(rows[0]))
    files.write_bytes(work / "closest.png", png(sheet(found, settings.pictures)))
    files.publish(work, target)


def summary(found: Findings, settings: Settings) -> Row:
    """All that is needed to read the audit, as plain JSON."""
    n, count, calibration = len(found.synthetic), int(found.suspect.sum()), found.calibration
    low, high = wilson_interval(count, n)
    return {
        "images": n,
        "train": len(found.train),
        "held_out": len(calibration.held),
        "left_out": list(found.left_out),
        "false_alarm_rate": settings.false_alarms,
        "level": calibration.level,
        "expected_false_alarms": calibration.level * n,
        "threshold": calibration.threshold,
        "suspects": count,
        "share": count / n,
        "share_low": low,
        "share_high": high,
        "near_statistic": STATISTIC,
        "near_share": found.near_share,
        "near_p": found.near_p,
        "permutations": settings.permutations,
        "neighbours": settings.neighbours,
        "spaces": spaces(found),
        "absent": dict(found.absent),
    }


def spaces(found: Findings) -> list[Row]:
    """Per space: the limit at which it alone suffices, how many are beyond, how often the nearest is the own source."""
    return [
        {
            "name": name,
            "limit": float(limit),
            "suspects": int((space.statistic < limit).sum()),
            "own_source": float(np.mean([_own(found, near, i) for i, near in enumerate(space.index)])),
        }
        for (name, space), limit in zip(found.nearest.items(), found.limits, strict=True)
    ]


def image_rows(found: Findings) -> list[Row]:
    """One row per image, the closest first; `nearest`, `own_source` and `space` are those of its closest space.

    `p` is the share of held-out images with as much evidence: of an image that is no copy, uniform between 0 and 1.
    """
    p, order = found.calibration.p(found.evidence), _order(found)
    return [_row(found, i, round(float(p[i]), 6)) for i in order]


def _row(found: Findings, i: int, p: float) -> Row:
    row, space = found.synthetic.rows[i], _space(found, i)
    near = int(found.nearest[space].index[i])
    about = {key: row[key] for key in ("id", "source_id", "copy")}
    about |= {"suspect": int(found.suspect[i]), "p": p, "space": space, "nearest": found.train.rows[near]["id"]}
    about |= {"own_source": int(_own(found, near, i)), "flip": FLIPS[found.nearest[PIXELS].flip[i]]}
    for name, where in found.nearest.items():
        about[f"nearest_{name}"] = found.train.rows[where.index[i]]["id"]
        about[f"distance_{name}"] = round(float(where.distance[i]), 6)
    return about


def _own(found: Findings, near: int, i: int) -> bool:
    """Whether the nearest training image is the one whose mask the image was made from: it may well resemble it."""
    return found.train.rows[near]["id"] == found.synthetic.rows[i]["source_id"]


def _space(found: Findings, i: int) -> str:
    return list(found.nearest)[int(found.closeness[i].argmax())]


def _order(found: Findings) -> list[int]:
    suspect, evidence = found.suspect, found.evidence
    return sorted(
        range(len(found.synthetic)), key=lambda i: (not suspect[i], -evidence[i], found.synthetic.rows[i]["id"])
    )


def sheet(found: Findings, pairs: int) -> NDArray[np.uint8]:
    """The closest pairs, synthetic image left and its nearest training image right; suspects have a red frame."""
    cells = [_pair(found, i) for i in _order(found)[:pairs]]
    lines = [cells[start : start + PER_LINE] for start in range(0, len(cells), PER_LINE)]
    lines[-1] += [np.full_like(cells[0], PAPER)] * (min(PER_LINE, len(cells)) - len(lines[-1]))
    return np.concatenate([np.concatenate(line, axis=1) for line in lines])


def _pair(found: Findings, i: int) -> NDArray[np.uint8]:
    """[H, W, 3] with a margin of GAP; the training image is turned as it fitted best where pixels decided."""
    space = _space(found, i)
    where = found.nearest[space]
    real = found.train.picture(found.train.rows[where.index[i]])
    sides = _small(found.synthetic.picture(found.synthetic.rows[i])), _small(turned(real, FLIPS[where.flip[i]]))
    pair = np.full((CELL + 2 * GAP, 2 * CELL + 3 * GAP, 3), PAPER, np.uint8)
    if found.suspect[i]:
        pair[GAP - FRAME : GAP + CELL + FRAME, GAP - FRAME : 2 * (GAP + CELL) + FRAME] = RED
    for left, side in zip((GAP, CELL + 2 * GAP), sides, strict=True):
        pair[GAP : GAP + CELL, left : left + CELL] = side
    return pair


def turned(image: NDArray[np.uint8], flip: str) -> NDArray[np.uint8]:
    """[C, H, W] mirrored as one of copies.FLIPS says."""
    down, right = -1 if flip in ("vertical", "both") else 1, -1 if flip in ("horizontal", "both") else 1
    return image[:, ::down, ::right]


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1)))
    return np.asarray(picture.resize((CELL, CELL), Image.Resampling.BICUBIC))
