"""What the stages of the toy study leave for its report; the real and synthetic sets come from conftest.py."""

from pathlib import Path
from typing import Any

from pipeline.core import files, paths, tables


def arm(name: str, role: str, multiplier: int, dice: float) -> dict[str, Any]:
    row: dict[str, Any] = {"segmenter": "unet", "training_set": name, "role": role, "multiplier": multiplier}
    row |= {"generator": "siamese" if multiplier else None, "n_images": 4, "n_seeds": 2, "val_dice": dice}
    row |= {
        "dice": dice,
        "dice_low": dice - 0.05,
        "dice_high": dice + 0.05,
        "test_sets": {"blobs": {"dice": dice, "n": 4}},
    }
    row |= {"iou": dice - 0.1, "iou_low": dice - 0.15, "iou_high": dice - 0.05, "verdict": None}
    row |= {"seed_sd": 0.0123, "n_clusters": 3}
    if role != "reference":
        row |= {"difference": dice - 0.7, "difference_low": dice - 0.75, "difference_high": dice - 0.65}
        row |= {"p_holm": 0.0421, "verdict": "inconclusive", "p_equivalent": 0.4567, "worst_tenth": -0.2345}
        row |= {"images_needed": 1234, "seeds_needed": None, "detectable": 0.0678}
    return row


def leave_results() -> None:
    """Below the current folder, what every stage of the toy study leaves that the report reads."""
    leave_comparison()
    files.write_json(paths.judge("toy") / "metrics.json", {"dice": 0.8765})
    score = {"name": "frechet.efficientnet_lite0", "value": 231.25, "low": 200.0, "high": 260.0, "floor": 81.5}
    score |= {
        "n": 8,
        "direction": "lower",
        "variant": "train",
        "reason": None,
        "seed": 0,
        "standard_error": None,
        "p_value": None,
    }
    silent = {
        **score,
        "variant": "heldout",
        "value": None,
        "low": None,
        "high": None,
        "floor": None,
        "reason": "too few",
    }
    files.write_json(paths.scores("toy", "siamese") / "scores.json", [score, silent])
    files.write_json(
        paths.scores("toy", "siamese") / "metrics.json", {"faithfulness": 0.61, "faithfulness_shuffled": 0.2}
    )
    points = [{"kind": kind, "id": "p0", "x": k, "y": -k} for k, kind in enumerate(("train", "test", "synthetic"))]
    tables.write_table(paths.scores("toy", "siamese") / "map.csv", points)
    moved = [{"step": k, "score": "faithfulness", "value": k / 10, "low": "", "high": "", "n": 8} for k in (1, 2)]
    tables.write_table(paths.snapshots("toy", "siamese") / "steps.csv", moved)
    write_audit(paths.audit("toy", "siamese"))
    steps = [{"step": k, "mask": 1.0 / (k + 1), "image": 0.5, "augmented": "" if k < 2 else 0.25} for k in range(4)]
    tables.write_table(paths.generator("toy", "siamese") / "losses.csv", steps)
    cells = [
        {"segmenter": "unet", "training_set": name, "seed": seed, "step": step, "ce": value, "dice": 1.0}
        for name, seed, value in (("real", 0, 1.0), ("real", 1, 3.0), ("siamese_x1", 0, 5.0), ("siamese_x1", 1, 5.0))
        for step in range(2)
    ]
    tables.write_table(paths.segmentation("toy", "unet") / "losses.csv", cells)


def leave_comparison() -> None:
    """What the stage compare leaves."""
    arms = [
        arm("real", "reference", 0, 0.7),
        arm("real_again", "control", 0, 0.69999),
        arm("siamese_x1", "arm", 1, 0.8125),
    ]
    curve = [
        {
            "segmenter": "unet",
            "generator": "siamese",
            "multiplier": m,
            "dice": d,
            "low": d - 0.05,
            "high": d + 0.05,
            "options": "",
        }
        for m, d in ((0, 0.7), (1, 0.8125))
    ]
    comparison = {"arms": arms, "curve": curve, "verdict": "Inconclusive: <b>& so</b> it is.", "about": {}}
    choice = {"segmenter": "unet", "generator": "siamese", "multiplier": 1, "training_set": "siamese_x1"}
    trend = {"segmenter": "unet", "generator": "siamese", "multipliers": "0<1<2", "direction": "up", "p": 0.0031}
    decided = {"difference_low": 0.0101, "difference_high": 0.1477, "p_holm": 0.0321, "verdict": "better"}
    seeds = {"segmenter": "unet", "method": "siamese", "multiplier": 1, "seeds": "0 7", "seed_sd": 0.0456}
    comparison["choice"] = [choice | {"val_dice": 0.8321, "wins": 0.9456, "chosen": True, "options": ""}]
    comparison["trend"] = [trend | {"p_seeds": 0.0417, "options": ""}]
    comparison["generator_seeds"] = [
        seeds | decided | {"difference": 0.0789, "least": 0.0333, "most": 0.1244, "options": ""}
    ]
    files.write_json(paths.comparison("toy") / "comparison.json", comparison)
    tables.write_table(paths.comparison("toy") / "multiplier_curve.csv", curve)


def write_audit(folder: Path) -> None:
    """What the stage audit leaves that the page reads: one suspect of eight images."""
    record = {"images": 8, "suspects": 1, "share": 0.125, "share_low": 0.02, "share_high": 0.47}
    record |= {"expected_false_alarms": 0.08, "near_share": 0.75, "near_p": 0.031, "spaces": [{"name": "pixels"}]}
    files.write_json(folder / "audit.json", record)
    found = [
        {"false_positive_rate": 0.05, "share": 0.3456, "low": 0.1, "high": 0.6, "reason": None},
        {"false_positive_rate": 0.01, "share": None, "low": None, "high": None, "reason": "too few"},
    ]
    attack = {"score": "loss", "auc": 0.6789, "low": 0.5432, "high": 0.8, "interval_reason": None, "found": found}
    absent = {"autoencoder": "there is none"}
    attacks = {"members": 8, "controls": 7, "attacks": [attack], "absent": absent}
    files.write_json(folder / "membership.json", attacks)
    suspect = {"id": "p0_c0", "nearest": "p<1>", "own_source": 1, "space": "pixels", "flip": "horizontal"}
    tables.write_table(folder / "suspects.csv", [suspect])
    pair = {"id": "train_0_c1", "nearest": "train_3", "suspect": 1, "own_source": 0, "space": "pixels"}
    pair |= {"flip": "horizontal", "distance_pixels": 0.278473}
    other = {"id": "train_2_c0", "suspect": 0, "own_source": 1, "nearest": "train_2", "distance_pixels": 0.9}
    tables.write_table(folder / "images.csv", [pair, pair | other])
