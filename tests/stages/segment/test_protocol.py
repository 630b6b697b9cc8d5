"""Summaries of test images: who belongs to which group, and how means are taken, by hand."""

from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.segmentation.params import Segment
from pipeline.stages.segment import protocol

SEGMENT: dict[str, Any] = {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3, "seeds": [0, 1]}
# test set, area, Dice with seed 0, with seed 1
IMAGES = [("kvasir", 0.2, 0.9, 0.7), ("kvasir", 0.04, 0.5, 0.5), ("kvasir", 0.3, 1.0, 0.6), ("etis", 0.01, 0.2, 0.4)]


def segment(**own: Any) -> Segment:
    return parse(Segment, SEGMENT | own)


def rows(images: list[tuple[str, float, float, float]]) -> list[protocol.ScoreRow]:
    found = []
    for seed in (0, 1):
        for number, (test_set, area, *dice) in enumerate(images):
            row = {"segmenter": "unet", "training_set": "real", "seed": seed, "split": "test", "test_set": test_set}
            scores = dict.fromkeys(protocol.METRICS, dice[seed]) | {"dice_swept": None}
            found.append(row | {"image": f"case_{number}", "area": area} | scores)
    return [*found, found[0] | {"split": "val", "dice": 0.0}]  # validation images have no part in it


def summary(chosen: Segment, images: list[tuple[str, float, float, float]] = IMAGES) -> dict[str, protocol.ScoreRow]:
    return {line["name"] or line["kind"]: line for line in protocol.summary(rows(images), chosen)}


def test_means_of_the_groups() -> None:
    found = summary(segment(unseen=["etis"]))
    assert {name: (line["n"], line["dice"]) for name, line in found.items()} == {
        "kvasir": (3, pytest.approx(0.7)),
        "etis": (1, pytest.approx(0.3)),
        "seen": (3, pytest.approx(0.7)),
        "unseen": (1, pytest.approx(0.3)),
        "weighted": (4, pytest.approx((3 * 0.7 + 0.3) / 4)),  # the literature's "overall"
        "macro": (4, pytest.approx((0.7 + 0.3) / 2)),
        "small_lesions": (2, pytest.approx((0.5 + 0.3) / 2)),
    }
    assert {line["seeds"] for line in found.values()} == {2}


def test_spread_over_seeds_is_that_of_the_means() -> None:
    assert summary(segment())["kvasir"]["dice_sd"] == pytest.approx((0.8 - 0.6) / 2**0.5, abs=1e-6)


def test_published_per_set_means_weight_to_the_published_overall() -> None:
    published = {"CVC-300": (60, 90.3), "ClinicDB": (62, 93.0), "Kvasir": (100, 92.0), "ColonDB": (380, 82.0)}
    images = [
        (name, 0.1, dice, dice) for name, (n, dice) in (published | {"ETIS": (196, 80.8)}).items() for _ in range(n)
    ]
    assert summary(segment(), images)["weighted"]["dice"] == pytest.approx(84.44, abs=0.005)


def test_strata_follow_the_lesion_s_area() -> None:
    images = [("a", 0.0, 1.0, 1.0), ("a", 0.049, 0.4, 0.4), ("a", 0.05, 0.8, 0.8)]
    found = summary(segment(), images)
    assert (found["small_lesions"]["n"], found["small_lesions"]["dice"]) == (1, 0.4)
    assert (found["no_lesion"]["n"], found["no_lesion"]["dice"]) == (1, 1.0)
    assert summary(segment(small_lesion=0.06), images)["small_lesions"]["n"] == 2


def test_no_group_without_an_image_and_no_number_without_a_score() -> None:
    found = summary(segment(), [("a", 0.2, 0.5, 0.5)])
    assert set(found) == {"a", "weighted", "macro"}
    assert found["a"]["dice_swept"] is None


def test_an_unseen_set_must_exist() -> None:
    with pytest.raises(UserError, match="names 'ETIS'; the sources of test images are: kvasir, etis"):
        segment(unseen=["ETIS"]).check_unseen(["kvasir", "kvasir", "etis"])
