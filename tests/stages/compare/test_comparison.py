"""Facts of the comparison of arms: what it claims, what it refuses to claim, what it writes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.data import manifest
from pipeline.metrics.statistics.paired import two_level_bootstrap
from pipeline.metrics.statistics.resampling import percentile_interval
from pipeline.stages.compare.arms import Arm, compare_arms, conclude_arms, evidence
from pipeline.stages.compare.claim import Claim, headline
from pipeline.stages.compare.comparison import collect_numbers, compare, publish_comparison
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.generator_level import GeneratorSpread, TreatmentEffect
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.results import Results
from pipeline.stages.compare.sentence import sentence, withdraw_claims
from pipeline.stages.compare.verdict import Verdict, conclude, decide
from pipeline.stages.mix.treatments import Treatment
from pipeline.study import Params, load_params
from tests.stages.compare.arm_rows import claim_of, row

ROOT = Path(__file__).parents[3]
SETS = {
    "real": {},
    "real_again": {"seed_offset": 1000},
    "siamese_x1": {"generator": "siamese", "multiplier": 1},
    "siamese_x2": {"generator": "siamese", "multiplier": 2},
    "siamese_x4": {"generator": "siamese", "multiplier": 4},
}


@pytest.fixture(scope="module")
def params() -> Params:
    shipped = load_params(ROOT / "params.yaml")
    values = shipped.model_dump() | {"training_sets": SETS, "segmenters": {"unet": {}}}
    values |= {"judge": {"segmenter": "unet"}, "generators": {"siamese": {"copies": 4}}, "confirm": None}
    return Params.model_validate(values | {"compare": {"resamples": 400, "margin": 0.01}})


def simulated(
    rng: np.random.Generator, seed_sd: float, image_sd: float, gain: dict[str, float] | None = None, n: int = 128
) -> Results:
    """Three seeds; SDs in Dice points; `image_sd` is that of a paired difference per image, averaged over seeds."""
    tables, images, gain = {}, {}, gain or {}
    for split in ("val", "test"):
        images[split] = tuple(("", f"{split}{k}") for k in range(n))
    seeds = {arm: rng.normal(0, seed_sd, (3, 1)) for arm in SETS}  # the models are the same on both splits
    for split in ("val", "test"):
        hardness = rng.normal(70, 15, n)
        for arm in SETS:
            own = rng.normal(0, image_sd * np.sqrt(0.5 / 2), n) + rng.normal(0, image_sd * np.sqrt(0.5 * 3 / 2), (3, n))
            scores = (hardness + own + seeds[arm] + gain.get(arm, 0)) / 100
            tables[arm, split, "dice"] = scores
            tables[arm, split, "iou"] = scores * 0.8
    return Results(tables, ("0", "1", "2"), images)


def said_of(arms: list[Arm], compare: Compare) -> str:
    """The sentence on arms whose generators have one training each."""
    return sentence(claim_of(arms), arms, compare)


def design(params: Params) -> Design:
    return Design(params.compare, params.training_sets, len(params.segmenters), params.seed)


def concluded(params: Params, results: Results) -> list[Arm]:
    return conclude_arms(compare_arms(design(params), "unet", results), params.compare)


def records(arms: list[Arm]) -> dict[str, dict[str, Any]]:
    return {arm.training_set: arm.record() for arm in arms}


def test_without_an_effect_claims_are_rare(params: Params) -> None:
    """Of a control with other seeds, too; benchmarks/calibration.py looks closer."""
    rng, runs, control, family = np.random.default_rng(1), 80, 0, 0
    roles = {name: "control" if name == "real_again" else "arm" for name in SETS if name != "real"}
    for _ in range(runs):
        results = simulated(rng, 2, 6)
        families: dict[str, list[Evidence]] = {"control": [], "arm": []}
        for name, role in roles.items():
            families[role].append(evidence(design(params), name, results))
        verdicts = {
            role: [one.verdict for one in conclude(tested, params.compare)] for role, tested in families.items()
        }
        claims = {role for role, found in verdicts.items() if {"better", "worse"} & set(found)}
        control += "control" in claims
        family += "arm" in claims
    # 5 % of 80 is 4; 10 or more happen with probability 0.6 %
    assert max(control, family) < 10


def test_a_plain_bootstrap_over_three_seeds_would_claim_too_much() -> None:
    rng, claims = np.random.default_rng(2), 0
    for _ in range(80):
        tables = simulated(rng, 2, 6).tables
        difference = tables["real_again", "test", "dice"] - tables["real", "test", "dice"]
        low, high = percentile_interval(two_level_bootstrap(difference[None], 400, rng)[:, 0])
        claims += not low <= 0 <= high
    assert claims >= 6  # why the verdict does not rest on it


def test_a_large_effect_is_found(params: Params) -> None:
    gains = {"siamese_x1": 4.0, "siamese_x2": 5.0, "siamese_x4": -5.0}
    arms = concluded(params, simulated(np.random.default_rng(3), 0.5, 6, gains))
    rows = records(arms)
    assert rows["siamese_x2"]["verdict"] == "better"
    assert rows["siamese_x4"]["verdict"] == "worse"
    assert rows["siamese_x2"]["difference"] == pytest.approx(0.05, abs=0.015)
    assert rows["siamese_x2"]["difference_low"] < 0.05 < rows["siamese_x2"]["difference_high"]
    said = said_of(arms, params.compare)
    assert said.startswith("Synthetic data helped: unet, siamese_x2 +")
    assert said.endswith("over real (n = 128 images, 3 seeds), for this one trained generator.")


def test_equal_arms_are_equivalent_once_there_are_enough_images(params: Params) -> None:
    arms = concluded(params, simulated(np.random.default_rng(4), 0.02, 3, n=400))
    rows = records(arms)
    assert {rows[name]["verdict"] for name in rows if name != "real"} == {"equivalent"}
    assert said_of(arms, params.compare).startswith("Synthetic data made no difference that matters:")


def test_seeds_that_disagree_make_it_inconclusive_though_images_alone_would_not(params: Params) -> None:
    results = simulated(np.random.default_rng(5), 0, 2)
    shift = np.array([[0.06], [0.0], [0.015]])  # every image follows its model: 2.5 points on average
    tables = dict(results.tables) | {("siamese_x1", "test", "dice"): results.tables["real", "test", "dice"] + shift}
    arm = records(concluded(params, Results(tables, results.seeds, results.images)))["siamese_x1"]
    assert arm["p_images"] < 0.01
    assert arm["verdict"] == "inconclusive"


def test_the_arm_is_chosen_on_validation_and_reported_on_test(params: Params) -> None:
    results = simulated(np.random.default_rng(6), 0, 1, {"siamese_x4": 3.0})
    tables = dict(results.tables)
    tables["siamese_x1", "val", "dice"] = tables["siamese_x1", "val", "dice"] + 0.2  # best on val, nothing on test
    chosen = claim_of(concluded(params, Results(tables, results.seeds, results.images)))
    assert chosen is not None
    assert chosen.training_sets == ("siamese_x1",)
    assert abs(chosen.record()["difference"]) < 0.01


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.BETTER),
        ({"difference": -0.02, "difference_low": -0.035, "difference_high": -0.005}, Verdict.WORSE),
        ({"p_holm": 0.08}, Verdict.INCONCLUSIVE),
        ({"p_images_holm": 0.08}, Verdict.INCONCLUSIVE),
        ({"difference_low": -0.001}, Verdict.INCONCLUSIVE),
        (
            {"difference_low": -0.009, "difference_high": 0.009, "p_equivalent_holm": 0.01, "p_holm": 0.5},
            Verdict.EQUIVALENT,
        ),
        ({"difference_low": 0.001, "difference_high": 0.009, "p_equivalent_holm": 0.04}, Verdict.NOT_ZERO),
        ({"difference_low": 0.001, "p_equivalent_holm": 0.04, "p_images_holm": 0.06}, Verdict.EQUIVALENT),
        ({"difference_low": -0.009, "difference_high": 0.009, "p_equivalent_holm": 0.06}, Verdict.INCONCLUSIVE),
        ({"n_seeds": 1}, Verdict.INCONCLUSIVE),
        ({"n_seeds": 1, "p_equivalent_holm": 0.001}, Verdict.INCONCLUSIVE),
        ({"n_seeds": 2}, Verdict.INCONCLUSIVE),
        ({"n_seeds": 3}, Verdict.BETTER),
        ({"n_units": 6, "p_equivalent_holm": 0.001, "p_holm": 0.5}, Verdict.EQUIVALENT),
        ({"n_units": 5, "p_equivalent_holm": 0.001}, Verdict.INCONCLUSIVE),
        ({"n_units": 5}, Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts_by_hand(changes: dict[str, Any], verdict: Verdict) -> None:
    arm = row(**changes)
    assert arm.evidence and arm.conclusion
    adjusted = arm.conclusion.largest_p, arm.conclusion.p_equivalent_holm
    assert decide(arm.evidence, *adjusted, Compare(margin=0.01)) == verdict


def test_claims_of_equivalence_are_corrected_for_several_arms() -> None:
    """Three differences at the margin with p 0.03 each: uncorrected, each would be called equivalent."""
    arms = [row(p_equivalent=0.03, p=0.9, p_images=0.9).evidence for _ in range(3)]
    family = conclude([one for one in arms if one], Compare())
    assert {(round(one.p_equivalent_holm, 6), one.verdict) for one in family} == {(0.09, Verdict.INCONCLUSIVE)}


def test_two_seeds_carry_no_verdict() -> None:
    said = said_of([row(n_seeds=2, verdict="inconclusive")], Compare())
    assert "2 seeds), for this one trained generator. Two seeds are too few; a verdict needs 3, better five." in said


def test_the_sentence_says_for_which_generators_it_holds() -> None:
    arms = [row(), row(training_set="second_x1", val_dice=0.9)]
    treatment = Treatment(("siamese_x1", "second_x1"))
    spread = GeneratorSpread("unet", "siamese", 1, "siamese second", "0 1", "", 0.01, 0.01, 0.03)
    pooled = row(n_generators=2, difference=0.015)
    assert pooled.evidence and pooled.conclusion
    effect = TreatmentEffect(treatment, spread, pooled.evidence, pooled.conclusion)
    said = sentence(headline(arms, [treatment], [effect]), arms, Compare())
    assert said == (
        "Synthetic data helped: unet, siamese_x1 and second_x1 +1.5 Dice points [0.5, 3.5] over real (n = 128 images,"
        " 3 seeds), for new training runs of the generator, judged from 2."
    )
    assert said_of(arms, Compare()).endswith("3 seeds), for this one trained generator.")


def test_the_confirmation_replaces_the_grid_in_the_sentence() -> None:
    arms, fresh = [row(), row(segmenter="other")], row(n_seeds=5, difference=0.01, verdict="inconclusive")
    assert fresh.evidence and fresh.conclusion
    confirmed = Claim("unet", ("siamese_x1",), fresh.evidence, fresh.conclusion, confirmed=True)
    single = [Treatment(("siamese_x1",))]
    said = sentence(headline(arms, single, confirmed=confirmed), arms, Compare())
    assert "+1.0 Dice points" in said and "5 fresh seeds" in said
    assert "+2.0" in sentence(headline(arms[1:], single, confirmed=confirmed), arms[1:], Compare())


def test_a_control_that_differs_withdraws_the_claim() -> None:
    control = row(training_set="real_again", role="control", difference=0.03)
    said = said_of([row(), control], Compare())
    assert said.startswith("Inconclusive: unet, siamese_x1 +2.0 Dice points [0.5, 3.5] over real")
    assert "The control real_again, trained on the same images, differs too (+3.0 points)." in said


def test_the_headline_is_the_arm_with_the_highest_validation_dice_not_the_largest_gain() -> None:
    arms = [
        row(segmenter="weak", val_dice=0.6, val_difference=0.1),
        row(segmenter="weak", training_set="siamese_x2", val_dice=0.5, val_difference=0.3),
        row(segmenter="strong", val_dice=0.9, val_difference=0.01),
        row(segmenter="strong", training_set="siamese_x2", val_dice=0.89, val_difference=0.2),
    ]
    chosen = claim_of(arms)
    assert chosen is not None
    assert chosen.evidence is arms[2].evidence
    assert said_of(arms, Compare()).startswith("Synthetic data helped: strong, siamese_x1 ")


def test_a_failed_control_leaves_no_claim_in_the_table(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gains = {"real_again": 6.0, "siamese_x1": 6.0, "siamese_x2": -6.0}
    write_scores(params, simulated(np.random.default_rng(3), 0.5, 6, gains))
    comparison = compare(params)
    publish_comparison(params.study, comparison)
    arms = {arm["training_set"]: arm for arm in tables.read_table(paths.comparison(params.study) / "arms.csv")}
    assert {arms[name]["verdict"] for name in ("siamese_x1", "siamese_x2", "siamese_x4")} == {"inconclusive"}
    assert "The control real_again, trained on the same images, differs too (+" in arms["siamese_x1"]["reason"]
    assert arms["real_again"]["verdict"] == "better"  # the evidence against the others keeps its own verdict
    assert comparison.verdict.startswith("Inconclusive:")
    assert comparison.verdict.count("The control real_again") == 1


def test_a_control_of_another_segmenter_withdraws_nothing() -> None:
    control = row(segmenter="other", training_set="real_again", role="control", difference=0.03)
    kept, withdrawn, _ = withdraw_claims([row(), row(segmenter="other"), control])
    assert kept.conclusion and withdrawn.conclusion
    assert (kept.conclusion.verdict, withdrawn.conclusion.verdict) == (Verdict.BETTER, Verdict.INCONCLUSIVE)


def test_one_seed_and_no_arm_are_said() -> None:
    assert "One seed cannot tell an effect from chance." in said_of([row(n_seeds=1, verdict="inconclusive")], Compare())
    assert said_of([row(role="reference")], Compare()) == "Inconclusive: no training set holds synthetic images."


@pytest.mark.parametrize(
    ("changes", "close"),
    [
        ({"p_holm": 0.0481}, "0.0481"),
        ({"p_images_holm": 0.08, "verdict": "inconclusive"}, "0.08"),
        ({"p_equivalent_holm": 0.03, "verdict": "equivalent", "p_holm": 0.2}, "0.03 for equivalence"),
        ({"p_equivalent_holm": 0.06, "verdict": "inconclusive", "p_holm": 0.09}, "0.06 for equivalence"),  # the nearer
        ({"p_holm": 0.02}, None),
        ({"p_holm": 0.11, "verdict": "inconclusive"}, None),
        ({"p_equivalent_holm": 0.001, "verdict": "equivalent", "p_holm": 0.2}, None),
        ({"p_equivalent_holm": 0.001, "verdict": "equivalent, yet not zero", "p_holm": 0.0481}, "0.0481"),
        ({"p_holm": 0.0481, "n_units": 5, "verdict": "inconclusive"}, None),
    ],
)
def test_a_verdict_near_its_threshold_says_so(changes: dict[str, Any], close: str | None) -> None:
    said = said_of([row(**changes)], Compare())
    if close is None:
        assert "close" not in said
    else:
        note = f"close: p = {close} at the 0.05 level; the verdict may differ on another processor."
        assert f"3 seeds), for this one trained generator; {note}" in said


def test_a_control_near_its_threshold_says_so() -> None:
    near = row(training_set="real_again", role="control", p_holm=0.06, verdict="inconclusive")
    told = "The control real_again is close: p = 0.06 at the 0.05 level; the verdict may differ on another processor."
    assert told in said_of([row(), near], Compare())
    assert "close" not in said_of([row(p_holm=0.5, verdict="inconclusive"), near], Compare())  # no claim to withdraw
    failed = row(training_set="real_again", role="control", p_holm=0.04)
    said = said_of([row(p_holm=0.0481), failed], Compare())
    assert said.startswith("Inconclusive:") and "is close: p = 0.04 at the 0.05 level" in said


def test_a_claim_near_its_threshold_says_so_under_a_failed_control() -> None:
    """On another processor the control may not fail, and the claim may fall on the other side of the level."""
    failed = row(training_set="real_again", role="control", p_holm=0.013)
    for verdict, p in (("inconclusive", 0.073), ("worse", 0.03)):
        said = said_of([row(p_holm=p, verdict=verdict), failed], Compare())
        assert (
            said.startswith("Inconclusive:") and f"; close: p = {p} at the 0.05 level; the verdict may differ" in said
        )
    assert "close" not in said_of([row(p_holm=0.2, verdict="inconclusive"), failed], Compare())


def write_scores(params: Params, results: Results, drop: int = 0) -> None:
    rows = []
    for (arm, split, metric), table in results.tables.items():
        if metric == "dice":
            for seed, scores in zip(results.seeds, table, strict=True):
                for (test_set, image), dice in zip(results.images[split], scores, strict=True):
                    about = {"segmenter": "unet", "training_set": arm, "seed": seed, "split": split}
                    rows.append(about | {"test_set": test_set, "image": image, "dice": dice, "iou": dice * 0.8})
    tables.write_table(paths.segmentation(params.study, "unet") / "scores.csv", rows[: len(rows) - drop])
    names = [(split, image) for split, columns in results.images.items() for _, image in columns]
    owner = {
        image: group
        for split, groups in results.clusters.items()
        for (_, image), group in zip(results.images[split], groups, strict=True)
    }
    real = [{"id": image, "split": split} | ({"group": owner[image]} if owner else {}) for split, image in names]
    paths.real(params.study).mkdir(parents=True, exist_ok=True)
    with manifest.writing(paths.real(params.study), real):
        pass


def test_files_hold_arms_curve_and_verdict(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = simulated(np.random.default_rng(7), 0.5, 6, n=20)
    write_scores(params, results)
    publish_comparison(params.study, compare(params))
    folder = paths.comparison(params.study)
    arms = tables.read_table(folder / "arms.csv")
    assert [arm["training_set"] for arm in arms] == list(SETS)
    assert float(arms[0]["dice"]) == pytest.approx(results.tables["real", "test", "dice"].mean(), rel=1e-5)
    curve = tables.read_table(folder / "multiplier_curve.csv")
    assert [point["multiplier"] for point in curve] == ["0", "1", "2", "4"]
    assert {point["generator"] for point in curve} == {"siamese"}
    assert files.read_json(folder / "comparison.json")["arms"][0]["test_sets"][""]["n"] == 20


def test_metrics_of_the_report(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_scores(params, simulated(np.random.default_rng(8), 0.5, 6, n=20))
    publish_comparison(params.study, compare(params))
    files.write_json(paths.judge(params.study) / "metrics.json", {"dice": 0.8, "iou": 0.7})
    files.write_json(
        paths.scores(params.study, "siamese") / "metrics.json", {"faithfulness": 0.7, "faithfulness_shuffled": 0.2}
    )
    metrics = collect_numbers(params.study, ["siamese"], has_judge=True)
    assert set(metrics["arms"]["unet"]) == set(SETS)
    assert metrics["arms"]["unet"]["real"]["iou"]["low"] < metrics["arms"]["unet"]["real"]["iou"]["mean"]
    assert metrics["judge"] == {"dice": 0.8}
    assert metrics["faithfulness"] == {"siamese": 0.7, "shuffled": 0.2}
    assert isinstance(metrics["verdict"], str)


def test_a_missing_score_is_named(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"scores\.csv does not exist; run the stage segment for unet"):
        compare(params)
    write_scores(params, simulated(np.random.default_rng(9), 0, 6, n=10), drop=1)
    with pytest.raises(UserError, match="no score of siamese_x4, seed 2, test image 'test9' \\(1 of 10\\)"):
        compare(params)


def test_comparing_does_not_load_torch() -> None:
    code = "import sys, pipeline.stages.compare.comparison; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
