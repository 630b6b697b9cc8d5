"""Scores of image sets whose images come from patients: intervals and permutations keep a patient's images together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import plugins, seeding
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.ratings import Rating
from pipeline.data.sample import DatasetSpec
from pipeline.methods.image_metrics import _distances, _pieces, faithfulness, lpips, mos
from pipeline.methods.image_metrics._groups import image_units
from pipeline.methods.image_metrics._pieces import Piece, pieces, sizes
from pipeline.metrics.images.score import ScoreResult
from pipeline.stages.score.params import Score

SPEC = DatasetSpec(name="patients", size=32)
METRICS = sorted(set(plugins.names("image_metrics")) - {"mos"})
PATIENTS = {"train": [4] * 12, "test": [4] * 8}


class Patients:
    """A store whose rows hardly differ within a patient."""

    settings = Score(resamples=200, kid_subsets=10, kid_subset_size=8)
    seed = 0

    def extractors(self, kind: str) -> list[str]:
        return ["clip_b32"] if kind == "rows" else ["lpips_alex"]

    def missing(self, extractor: str) -> str | None:
        return None if extractor in ("clip_b32", "lpips_alex") else "no weights"

    def features(self, images: ImageSet, extractor: str) -> Any:
        return np.stack([look(row) for row in images]).astype(np.float32)

    def distances(self, first: ImageSet, second: ImageSet, extractor: str) -> Any:
        return np.array([np.abs(look(a) - look(b)).sum() + look(a)[0] for a, b in zip(first, second, strict=True)])


STORE: Any = Patients()


def look(row: Row) -> np.ndarray:
    patient = row["source_id"].rsplit("_", 1)[0]
    effect, noise = (seeding.numpy_rng("looks", name).normal(size=3) for name in (patient, row["id"]))
    return 3 + effect + 0.02 * noise


def real_set(patients: dict[str, list[int]] = PATIENTS, is_grouped: bool = True) -> ImageSet:
    """Images of every split, so many per patient."""
    rows = [
        {"id": name, "source_id": name, "copy": 0, "split": split}
        | ({"group": f"group_{split}{p}"} if is_grouped else {})
        for split, counts in patients.items()
        for p, count in enumerate(counts)
        for name in (f"{split}{p}_{k}" for k in range(count))
    ]
    return ImageSet(Path("real"), SPEC, tuple(rows))


def made_from(real: ImageSet, copies: int = 2) -> ImageSet:
    """Synthetic images that follow the masks of the training images."""
    rows = [
        {"id": f"{row['id']}_c{copy}", "source_id": row["id"], "mask_id": row["id"], "copy": copy, "split": "train"}
        for row in real.split("train")
        for copy in range(copies)
    ]
    return ImageSet(Path("synthetic"), SPEC, tuple(rows))


@pytest.fixture(autouse=True)
def dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge's Dice hardly differs within a patient either."""
    monkeypatch.setattr(faithfulness, "dice", lambda images, *_: np.array([look(row)[0] / 10 for row in images]))


def scored(metric: str, real: ImageSet) -> dict[tuple[str, str], ScoreResult]:
    scores = plugins.load("image_metrics", metric).score(real, made_from(real), STORE)
    return {(score.name, score.variant): score for score in scores if score.reason != "no weights"}


def width(score: ScoreResult) -> float:
    assert score.low is not None
    assert score.high is not None
    return score.high - score.low


WIDER = {
    "clip_i": ("clip_i_pairwise", "train"),
    "cmmd": ("mmd_rbf_unbiased.clip_b32", "train_half"),
    "faithfulness": ("faithfulness", ""),
    "frechet": ("frechet.clip_b32", "train_half"),
    "frechet_infinity": ("frechet_infinity.clip_b32", "heldout"),
    "frechet_infinity_both": ("frechet_infinity_both.clip_b32", "train_half"),
    "kernel": ("kernel.clip_b32", "train"),
    "lpips": ("lpips_intra_set.alex", ""),
    "prdc": ("recall.clip_b32", "train_half"),
    "vendi": ("vendi.clip_b32", ""),
}


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_rest_on_patients_and_are_wider_than_if_their_images_were_independent(metric: str) -> None:
    grouped, alone = scored(metric, real_set()), scored(metric, real_set(is_grouped=False))
    assert width(grouped[WIDER[metric]]) > 1.4 * width(alone[WIDER[metric]])
    assert {score.n_groups for score in alone.values()} == {None}
    assert {score.n_groups for (_, variant), score in grouped.items() if variant == "train"} <= {12}
    assert {score.n_groups for (_, variant), score in grouped.items() if variant == "train_half"} <= {6}
    judged = {"judge_dice", "faithfulness_ratio"}  # test images are part of them
    assert {score.n_groups for (name, variant), score in grouped.items() if not variant and name not in judged} <= {12}
    assert all(grouped[key].n_groups == 8 for key in grouped if key[0] in judged)


@pytest.mark.parametrize("metric", METRICS)
def test_one_patient_gives_a_value_and_the_reason_why_there_is_no_interval(metric: str) -> None:
    scores = scored(metric, real_set({"train": [30], "test": [30]}))
    with_value = [score for score in scores.values() if score.value is not None]
    assert with_value
    for score in with_value:
        assert (score.low, score.high, score.n_groups) == (None, None, 1)
        assert (
            score.interval_reason == "the images come from 1 group (such as a patient); an interval needs at least two"
        )
    halves = [score for (_, variant), score in scores.items() if variant == "train_half"]
    assert all(score.reason == _pieces.ONE_HALF for score in halves)


def test_a_synthetic_image_belongs_to_the_patient_of_its_mask_and_masks_of_no_real_image_stand_alone() -> None:
    real = real_set({"train": [2, 1]})
    shapes = [{"id": f"s{k}", "source_id": "shapes", "mask_id": f"shapes_{k}", "copy": 0} for k in range(2)]
    made = made_from(real, copies=1)
    units = image_units(made.select([*made.rows, *shapes]), real)
    assert units.names == ("group/group_train0",) * 2 + ("group/group_train1", "shapes_0", "shapes_1")
    assert (units.n_groups, image_units(made.select(shapes), real).n_groups) == (4, None)


@pytest.mark.parametrize("whole_real", [False, True])
def test_no_patient_is_in_two_blocks_or_in_both_halves(whole_real: bool) -> None:
    real = real_set({"train": [1, 9, 3, 3, 7, 2, 5], "test": [2, 4, 6]})
    found = {piece.variant: piece for piece in pieces(real, made_from(real), STORE, "clip_b32", whole_real)}
    for piece in found.values():
        assert piece.real_units is not None
        assert piece.synthetic_units is not None
        places = zip(
            [*piece.real_units.names, *piece.synthetic_units.names],
            [*piece.blocks.first, *piece.blocks.second],
            strict=True,
        )
        blocks = dict(places)
        assert all(
            blocks[name] == block for name, block in zip(piece.real_units.names, piece.blocks.first, strict=True)
        )
        assert set(piece.blocks.first) == set(piece.blocks.second) == set(range(piece.blocks.count))
    half = found["train_half"]
    assert half.real_units is not None
    assert half.synthetic_units is not None
    assert not set(half.real_units.names) & set(half.synthetic_units.names)
    assert 10 <= len(half.real) == len(half.synthetic) <= 15
    assert {v: len(piece.synthetic) for v, piece in found.items()} == sizes(real, made_from(real), 0, whole_real)
    assert len(found["heldout"].synthetic) == (30 if whole_real else 12)
    assert len(found["heldout"].real) == 12


@pytest.mark.parametrize("metric", ["kernel", "cmmd"])
def test_p_permutes_patients(metric: str) -> None:
    """Test patients of the same distribution as training patients: images one by one would give the smallest p."""
    many = {"train": [12] * 8, "test": [12] * 8}
    last = [score for (_, variant), score in scored(metric, real_set(many)).items() if variant == "heldout"]
    lone = [score for (_, v), score in scored(metric, real_set(many, is_grouped=False)).items() if v == "heldout"]
    assert all(score.p_value is not None and score.p_value > 0.05 for score in last)
    assert all(score.p_value is not None and score.p_value < 0.02 for score in lone)


def test_p_says_why_it_is_not_given() -> None:
    def reason(real: ImageSet, made: ImageSet, variant: str = "heldout") -> str | None:
        scores = plugins.load("image_metrics", "kernel").score(real, made, STORE)
        (score,) = (score for score in scores if score.variant == variant)
        assert score.p_value is None
        return score.p_reason

    real = real_set()
    made = made_from(real)
    assert reason(real, made, "train") == _distances.SHARED_MASKS
    shapes = [row | {"source_id": "shapes", "mask_id": f"shapes_{k}", "copy": 0} for k, row in enumerate(made)]
    assert reason(real, made.select(shapes)) == _distances.ONE_SIDED
    divided = real.select(row | {"group": row["group"].replace("test", "train")} for row in real)
    assert reason(divided, made) == _distances.SHARED_GROUP
    alone = real_set({"train": [4] * 6, "test": [20]})
    assert reason(alone, made_from(alone)) == _distances.FEW_GROUPS


def test_pairs_of_one_patient_are_drawn_with_the_patient() -> None:
    """Of two patients, both are drawn or one twice: three kinds of draws, and three means."""
    real = real_set({"train": [3, 3]})
    score = lpips._intra_set(real, made_from(real, 1), STORE, "lpips_alex")
    assert score.n_groups == 2
    assert width(score) > 0


def test_ratings_of_one_patient_s_images_are_drawn_together() -> None:
    real = real_set()
    made = made_from(real, 1)
    ratings = [
        Rating("r", row["id"], "synthetic", 1 + int(row["source_id"][5:].split("_")[0]) % 5, False) for row in made
    ]
    together = mos._opinion("mos", ratings, image_units(made, real), made.ids, STORE)
    apart = mos._opinion("mos", ratings, image_units(made, real_set(is_grouped=False)), made.ids, STORE)
    assert (together.n_groups, apart.n_groups) == (12, None)
    assert width(together) > 1.6 * width(apart)
    of_one = mos._opinion("mos", ratings[:4], image_units(made, real), made.ids, STORE)
    assert (of_one.value, of_one.low, of_one.n_groups) == (1, None, 1)


def test_real_images_without_a_patient_count_as_one_each() -> None:
    real = real_set({"train": [4, 4, 4], "test": [4, 4]})
    some = real.select(row | {"group": ""} if row["id"].startswith("train2") else row for row in real)
    assert image_units(some.split("train"), some).n_groups == 6


def test_a_piece_of_which_nothing_is_known_is_dealt_out_by_position() -> None:
    rows = np.zeros((50, 2), np.float32)
    blocks = Piece("train", rows, rows, None).blocks
    assert blocks.first.tolist() == blocks.second.tolist() == [k % 20 for k in range(50)]
    assert (blocks.n_groups, blocks.shares) == (None, None)
