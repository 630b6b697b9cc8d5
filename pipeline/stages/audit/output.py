"""Files of an audit: a summary, one row per image, and a picture of the closest pairs."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import files, tables
from pipeline.data.image_set import png
from pipeline.data.mosaic import mosaic
from pipeline.metrics.images.copies import FLIPS
from pipeline.metrics.statistics.proportion import wilson_interval
from pipeline.stages.audit import membership_output
from pipeline.stages.audit.copy_search import PIXELS, SAME, Findings
from pipeline.stages.audit.membership import Inference
from pipeline.stages.audit.params import Audit

Record = dict[str, Any]
CELL, GAP, FRAME = 96, 6, 3  # pixels of a picture, between pictures, and of the frame of a suspect
RED, BACKGROUND = (204, 51, 51), 238
PER_LINE = 4  # pairs
STATISTIC = "share of pairs in which the first copy of a mask is closer to the training images than a held-out image"


def publish_audit(target: Path, work: Path, findings: Findings, audit: Audit, inference: Inference | None) -> None:
    """Write the files of the search for copies and of the membership attacks into `work` and publish them."""
    record, rows = summary(findings, audit), image_rows(findings)
    files.write_json(work / "audit.json", record)
    numbers = {key: record[key] for key in ("suspects", "share", "near_share", "near_p")}
    tables.write_metrics(work / "metrics.json", numbers | membership_output.metrics(inference))
    membership_output.write(work, inference, audit.membership)
    tables.write_table(work / "images.csv", rows)
    tables.write_table(work / "suspects.csv", [row for row in rows if row["suspect"]], list(rows[0]))
    files.write_bytes(work / "closest.png", png(sheet(findings, audit.pictures)))
    files.publish(work, target)


def summary(findings: Findings, audit: Audit) -> Record:
    """Return all that is needed to interpret the audit, as plain JSON."""
    n, count, calibration = len(findings.synthetic), int(findings.suspect.sum()), findings.calibration
    low, high = wilson_interval(count, n)
    return {
        "images": n,
        "train": len(findings.train.train),
        **_limit(findings),
        **_unlabelled(findings),
        **_kept_backgrounds(findings),
        **({"own_images": findings.own.record(SAME)} if findings.own else {}),
        "held_out": len(calibration.held),
        "left_out": list(findings.left_out),
        "false_alarm_rate": audit.false_alarms,
        "level": calibration.level,
        "expected_false_alarms": calibration.level * n,
        "threshold": calibration.threshold,
        "suspects": count,
        "share": count / n,
        "share_low": low,
        "share_high": high,
        "near_statistic": STATISTIC,
        "near_share": findings.near_share,
        "near_p": findings.near_p,
        "permutations": audit.permutations,
        "neighbours": audit.neighbours,
        "spaces": spaces(findings),
        "absent": dict(findings.unavailable),
    }


def _limit(findings: Findings) -> Record:
    """Return on how many of the training pairs the generator was fine-tuned, where its entry has a limit."""
    row = findings.synthetic.rows[0]
    return {"fine_tuned_on": row["training_pairs"]} if "training_pairs" in row else {}


def _unlabelled(findings: Findings) -> Record:
    """Return how many unlabelled images were searched too, and how many suspects are closest to one of them."""
    train = findings.train
    if train.unlabelled is None:
        return {}
    nearest = [findings.nearest[_closest_space(findings, i)].index[i] for i in np.flatnonzero(findings.suspect)]
    copied = sum(int(near) >= len(train.train) for near in nearest)
    return {"unlabelled": len(train.unlabelled), "suspects_of_unlabelled": copied}


def _kept_backgrounds(findings: Findings) -> Record:
    """Return how many images keep a real background, and how often the drawn lesion is nearest to its real one."""
    if findings.lesions is None:
        return {}
    kept = sum("keep_background" in row for row in findings.synthetic)
    return {"kept_backgrounds": kept, "drawn_lesions": findings.lesions.record}


def spaces(findings: Findings) -> list[Record]:
    """Return per space its own limit, the images beyond it, and the share whose nearest image is their source."""
    return [
        {
            "name": name,
            "limit": float(limit),
            "suspects": int((space.statistic < limit).sum()),
            "own_source": float(np.mean([_is_own_source(findings, near, i) for i, near in enumerate(space.index)])),
        }
        for (name, space), limit in zip(findings.nearest.items(), findings.limits, strict=True)
    ]


def image_rows(findings: Findings) -> list[Record]:
    """Return one row per image, the closest first; `nearest`, `own_source` and `space` belong to its closest space.

    `p` is the share of held-out images with as much evidence; uniform between 0 and 1 for an image that is not a copy.
    """
    p, order = findings.calibration.p(findings.evidence), _order(findings)
    return [_image_row(findings, i, round(float(p[i]), 6)) for i in order]


def _image_row(findings: Findings, i: int, p: float) -> Record:
    row, space = findings.synthetic.rows[i], _closest_space(findings, i)
    near = int(findings.nearest[space].index[i])
    record = {
        **{key: row[key] for key in ("id", "source_id", "copy")},
        "suspect": int(findings.suspect[i]),
        "p": p,
        "space": space,
        "nearest": findings.train.id(near),
        "own_source": int(_is_own_source(findings, near, i)),
        "flip": FLIPS[findings.nearest[PIXELS].flip[i]],
    }
    if findings.lesions is not None:
        repeats = findings.lesions.repeats[i]
        record["lesion_nearest_to_own"] = "" if repeats is None else int(repeats)
    if findings.own is not None:
        distance = findings.own.distances[i]
        record["distance_own_image"] = "" if distance is None else round(distance, 6)
    for name, nearest in findings.nearest.items():
        record[f"nearest_{name}"] = findings.train.id(int(nearest.index[i]))
        record[f"distance_{name}"] = round(float(nearest.distance[i]), 6)
    return record


def _is_own_source(findings: Findings, near: int, i: int) -> bool:
    """Return whether the nearest training image is the one whose mask conditioned the image (likeness is expected)."""
    return findings.train.id(near) == findings.synthetic.rows[i]["source_id"]


def _closest_space(findings: Findings, i: int) -> str:
    return list(findings.nearest)[int(findings.closeness[i].argmax())]


def _order(findings: Findings) -> list[int]:
    suspect, evidence = findings.suspect, findings.evidence
    return sorted(
        range(len(findings.synthetic)), key=lambda i: (not suspect[i], -evidence[i], findings.synthetic.rows[i]["id"])
    )


def sheet(findings: Findings, pairs: int) -> NDArray[np.uint8]:
    """Return the closest pairs [H, W, 3]: synthetic image left, nearest training image right; suspects framed red."""
    cells = [_pair(findings, i) for i in _order(findings)[:pairs]]
    return mosaic([cells[start : start + PER_LINE] for start in range(0, len(cells), PER_LINE)], 0, BACKGROUND)


def _pair(findings: Findings, i: int) -> NDArray[np.uint8]:
    """Return a pair [H, W, 3] with a margin of GAP; the training image is flipped where pixels matched best so."""
    nearest = findings.nearest[_closest_space(findings, i)]
    real = findings.train.picture(int(nearest.index[i]))
    synthetic = findings.synthetic.picture(findings.synthetic.rows[i])
    sides = _thumbnail(synthetic), _thumbnail(flipped(real, FLIPS[nearest.flip[i]]))
    pair = np.full((CELL + 2 * GAP, 2 * CELL + 3 * GAP, 3), BACKGROUND, np.uint8)
    if findings.suspect[i]:
        pair[GAP - FRAME : GAP + CELL + FRAME, GAP - FRAME : 2 * (GAP + CELL) + FRAME] = RED
    for left, side in zip((GAP, CELL + 2 * GAP), sides, strict=True):
        pair[GAP : GAP + CELL, left : left + CELL] = side
    return pair


def flipped(image: NDArray[np.uint8], flip: str) -> NDArray[np.uint8]:
    """Return an image [C, H, W] mirrored by one of copies.FLIPS."""
    down, right = -1 if flip in ("vertical", "both") else 1, -1 if flip in ("horizontal", "both") else 1
    return image[:, ::down, ::right]


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1)))
    return np.asarray(picture.resize((CELL, CELL), Image.Resampling.BICUBIC))
