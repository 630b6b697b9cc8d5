"""Facts of the choice of a multiplier, the trend, clusters, and generators that differ in their seed alone."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.stages.compare import multipliers
from pipeline.stages.compare.arms import compare_arms, conclude_arms, evidence, needs
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.generator_level import treatment_effects
from pipeline.stages.compare.results import Results
from pipeline.stages.compare.sentence import sentence
from pipeline.stages.finetune.generator import stream
from pipeline.stages.mix.treatments import treatments
from pipeline.study import Params, load_params
from tests.stages.compare.arm_rows import claim_of

ROOT = Path(__file__).parents[3]


def study(sets: dict[str, Any], generators: dict[str, Any], **compare: Any) -> Params:
    values = load_params(ROOT / "params.yaml").model_dump() | {"segmenters": {"unet": {}}, "generators": generators}
    values |= {"judge": {"segmenter": "unet"}, "training_sets": sets, "compare": {"resamples": 400} | compare}
    return Params.model_validate(values)


def design(params: Params) -> Design:
    return Design(params.compare, params.training_sets, len(params.segmenters), params.seed)


LADDER = {"x4": {"generator": "siamese", "multiplier": 4}, "real": {}, "x1": {"generator": "siamese", "multiplier": 1}}


def results(dice: dict[str, np.ndarray], clusters: tuple[str, ...] = ()) -> Results:
    tables = {
        (arm, split, m): table for arm, table in dice.items() for split in ("val", "test") for m in ("dice", "iou")
    }
    seeds, images = next(iter(dice.values())).shape
    names = tuple(("", str(place)) for place in range(images))
    groups = {"val": clusters, "test": clusters} if clusters else {}
    return Results(tables, tuple(map(str, range(seeds))), {"val": names, "test": names}, groups)


def scores(gains: dict[str, float], seeds: int = 3, images: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shared = rng.normal(0.7, 0.1, images)
    return {arm: shared + gain + rng.normal(0, 0.01, (seeds, images)) for arm, gain in gains.items()}


def test_the_choice_falls_on_the_highest_validation_dice_and_wins_sum_to_one() -> None:
    params = study(LADDER, {"siamese": {"copies": 4}})
    rows = multipliers.choices(design(params), "unet", results(scores({"real": 0.0, "x1": 0.03, "x4": 0.01})))
    assert [(row.multiplier, row.chosen) for row in rows] == [(0, False), (1, True), (4, False)]
    assert sum(row.wins for row in rows) == pytest.approx(1)
    assert rows[1].wins > 0.99
    alike = multipliers.choices(design(params), "unet", results(scores({"real": 0.0, "x1": 0.0, "x4": 0.0}, images=12)))
    assert max(row.wins for row in alike) < 0.95  # a choice among equals is no choice


def test_the_trend_goes_over_the_multipliers_in_their_order() -> None:
    params = study(LADDER, {"siamese": {"copies": 4}})
    (trend,) = multipliers.trends(design(params), "unet", results(scores({"real": 0.0, "x1": 0.01, "x4": 0.03})))
    assert (trend.multipliers, trend.direction) == ("0<1<4", "up")
    assert trend.p < 1e-6
    assert trend.p_seeds == pytest.approx(2 / 216)  # three seeds in perfect order, two-sided
    (trend,) = multipliers.trends(design(params), "unet", results(scores({"real": 0.0, "x1": -0.01, "x4": -0.03})))
    assert trend.direction == "down"


def test_sets_of_different_treatment_stand_on_ladders_of_their_own() -> None:
    share = {"generator": "siamese", "multiplier": 4, "synthetic_share": 0.2}
    sets = {"share_x4": share, **LADDER, "twice_x1": LADDER["x1"] | {"repeat": 2}}
    sets["again"] = LADDER["x1"] | {"seed_offset": 1000}
    params = study(sets, {"siamese": {"copies": 4}})
    dice = results(scores({"real": 0.0, "x1": 0.01, "x4": 0.03, "share_x4": -0.1, "twice_x1": 0.0, "again": 0.0}))
    rows = multipliers.choices(design(params), "unet", dice)
    ladders: dict[str, list[str]] = {}
    for one in rows:
        ladders.setdefault(one.options, []).append(one.training_set)
    without_reference = {"repeat 2": ["twice_x1"]}  # its real images are not the reference's
    assert ladders == {"synthetic_share 0.2": ["real", "share_x4"], "": ["real", "x1", "x4"]} | without_reference
    (trend,) = multipliers.trends(design(params), "unet", dice)
    assert (trend.multipliers, trend.direction) == ("0<1<4", "up")
    curve = multipliers.multiplier_curve(design(params), compare_arms(design(params), "unet", dice))
    found = [(point.options, point.multiplier) for point in curve]
    assert found == [("synthetic_share 0.2", 0), ("synthetic_share 0.2", 4), ("", 0), ("", 1), ("", 4), ("repeat 2", 1)]


def test_a_ladder_refuses_a_reference_with_synthetic_images() -> None:
    with pytest.raises(ValueError, match=r"compare\.reference is 'x1', whose multiplier is 1"):
        study(LADDER, {"siamese": {"copies": 4}}, reference="x1")
    params = study(LADDER, {"siamese": {"copies": 4}})
    synthetic = params.compare.model_copy(update={"reference": "x1"})
    with pytest.raises(UserError, match="name a training set of multiplier 0"):
        Design(synthetic, params.training_sets, 1, 0).ladders()


def test_two_levels_are_no_trend() -> None:
    params = study({"real": {}, "x1": LADDER["x1"]}, {"siamese": {"copies": 4}})
    assert multipliers.trends(design(params), "unet", results(scores({"real": 0.0, "x1": 0.01}))) == []


@pytest.mark.parametrize("sizes", [[100, *[1] * 9], [2**k for k in range(8)]], ids=["one large", "geometric"])
def test_unequal_patients_alone_are_no_trend(sizes: list[int]) -> None:
    arms, rng, patients = design(study(LADDER, {"siamese": {"copies": 4}})), np.random.default_rng(0), len(sizes)
    clusters, found, runs = tuple(f"{k:02d}" for k in np.repeat(range(patients), sizes)), 0, 300
    for _ in range(runs):
        tables = {arm: rng.normal(0.7, 0.1, (3, sum(sizes))) for arm in ("real", "x1", "x4")}
        (trend,) = multipliers.trends(arms, "unet", results(tables, clusters))
        found += trend.p < 0.05
    assert 0.01 <= found / runs <= 0.08  # 5 %, less what exact p leave out, more three standard errors


def test_spread_between_generator_seeds_by_hand() -> None:
    generators = {
        "siamese": {"copies": 1},
        "second": {"copies": 1, "method": "siamese", "seed": 7},
        "other": {"copies": 1, "method": "controlnet", "seed": 7},
    }
    sets = {"real": {}} | {name: {"generator": name, "multiplier": 1} for name in generators}
    params = study(sets, generators)
    gains = {"real": 0.0, "siamese": 0.01, "second": 0.03, "other": -0.2}
    noise = np.random.default_rng(0).normal(0, 0.01, (5, 12))
    tables = {(name, "test", "dice"): 0.7 + noise + gain for name, gain in gains.items()}
    found_scores = Results(tables, tuple("01234"), {"test": tuple(("", str(place)) for place in range(12))})
    grouped = treatments(params.training_sets, params.generators, "real")
    (found,) = treatment_effects(design(params), grouped, params.generators, "unet", found_scores)
    spread, evidence = found.spread, found.evidence
    assert (spread.method, spread.generators, spread.seeds) == ("siamese", "siamese second", "0 7")
    assert (evidence.difference, spread.least, spread.most) == pytest.approx((0.02, 0.01, 0.03))
    assert spread.seed_sd == pytest.approx(0.02 / np.sqrt(2))
    # nothing differs but the generators: t(1) = 12.706, times the SD over the root of two
    assert evidence.difference_high - 0.02 == pytest.approx(12.7062 * 0.01, rel=1e-4)
    assert evidence.n_generators == 2
    first, second, third = (stream(params.seed, params.generators[name]) for name in ("siamese", "second", "other"))
    assert first == params.seed  # as before there were seeds of entries
    assert second == third != params.seed


def test_images_of_one_patient_count_once() -> None:
    rng = np.random.default_rng(1)
    gain = rng.normal(0.01, 0.03, 30)
    few = {"real": np.zeros((3, 30)) + 0.5, "x1": 0.5 + np.stack([gain] * 3)}
    many = {arm: np.repeat(table, 4, axis=1) for arm, table in few.items()}
    params = study({"real": {}, "x1": LADDER["x1"]}, {"siamese": {"copies": 4}})
    patients = tuple(f"{k:02d}" for k in np.repeat(range(30), 4))
    arms = design(params)
    single, frames = evidence(arms, "x1", results(few)), evidence(arms, "x1", results(many, patients))
    sizes = {"n_images": 120, "n_units": 30}
    assert asdict(frames) == pytest.approx(asdict(single) | sizes, abs=1e-3)
    assert evidence(arms, "x1", results(many)).p < single.p / 5  # were they taken for independent
    about = compare_arms(arms, "unet", results(many, patients))
    assert [arm.n_clusters for arm in about] == [30, 30]
    needed = needs(arms, "x1", results(few)).images_needed
    assert needed is not None
    assert needs(arms, "x1", results(many, patients)).images_needed == pytest.approx(4 * needed)


@pytest.mark.parametrize("patients", [1, 5])
def test_few_patients_carry_no_verdict_however_many_their_images(patients: int) -> None:
    """A gain of 3 points in truth; each patient's own difference has an SD of 3 points."""
    params, rng = study({"real": {}, "x1": LADDER["x1"]}, {"siamese": {"copies": 4}}), np.random.default_rng(0)
    owner = np.arange(40) % patients
    verdicts = []
    for _ in range(100):
        gain = (0.03 + rng.normal(0, 0.03, patients))[owner] + rng.normal(0, 0.01, (3, 40))
        scores = results({"real": np.full((3, 40), 0.7), "x1": 0.7 + gain}, tuple(map(str, owner)))
        arms = conclude_arms(compare_arms(design(params), "unet", scores), params.compare)
        verdicts.append(arms[1].record()["verdict"])
    assert set(verdicts) == {"inconclusive"}, verdicts.count("equivalent")
    reason = (
        f"Only 40 test images in {patients} group{'s' if patients > 1 else ''} (such as a patient); a verdict needs 6"
    )
    assert arms[1].record()["reason"] == f"{reason} independent ones."
    assert arms[1].record()["reason"] in sentence(claim_of(arms), arms, params.compare)
    assert list(arms[1].record())[-1] == "reason"


def test_one_seed_needs_are_not_told() -> None:
    params = study({"real": {}, "x1": LADDER["x1"]}, {"siamese": {"copies": 4}})
    sizes = needs(design(params), "x1", results(scores({"real": 0.0, "x1": 0.0}, seeds=1)))
    assert set(asdict(sizes).values()) == {None}


def test_the_correction_for_several_arms_asks_for_more_images() -> None:
    """z is 1.96 + 0.84 for one arm and 2.24 + 0.84 for two, the square of their ratio is 1.21."""
    gain = np.random.default_rng(2).normal(0, 0.1, 200)
    table = results({"real": np.full((3, 200), 0.5), "x1": 0.5 + np.stack([gain] * 3), "x4": np.full((3, 200), 0.5)})
    alone = study({"real": {}, "x1": LADDER["x1"]}, {"siamese": {"copies": 4}})
    both = study(LADDER, {"siamese": {"copies": 4}})
    more, fewer = (needs(design(params), "x1", table).images_needed for params in (both, alone))
    assert more and fewer
    assert more / fewer == pytest.approx(1.21, abs=0.01)


def test_worst_tenth_by_hand() -> None:
    change = np.concatenate([[-0.4, -0.2], np.full(18, 0.1)])  # of 20 images the two that lose most
    params = study({"real": {}, "x1": LADDER["x1"]}, {"siamese": {"copies": 4}})
    tables = {"real": np.full((2, 20), 0.5), "x1": 0.5 + np.stack([change] * 2)}
    arms = conclude_arms(compare_arms(design(params), "unet", results(tables)), params.compare)
    row = arms[1].record()
    assert row["worst_tenth"] == pytest.approx(-0.3)
    assert row["share_improved"] == pytest.approx(0.9)
