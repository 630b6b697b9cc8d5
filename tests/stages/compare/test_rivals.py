"""The claim against its best rival: which that is, what the sentence says, and what the family no longer holds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.core.section import parse
from pipeline.stages.compare.claim import Claim, RivalDifference, headline
from pipeline.stages.compare.comparison import compare
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.results import Results
from pipeline.stages.compare.rivals import best_rival
from pipeline.stages.compare.sentence import sentence, withdraw_headline
from pipeline.stages.compare.verdict import Verdict
from pipeline.stages.mix.treatments import Treatment
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.stages.compare.arm_rows import row

SETS: dict[str, dict[str, Any]] = {
    "real": {},
    "real_longer": {"steps": 2.0},
    "real_again": {"seed_offset": 1000},
    "siamese_x1": {"generator": "siamese", "multiplier": 1},
    "copy_paste_x1": {"generator": "copy_paste", "multiplier": 1},
}


def study(**changes: Any) -> Params:
    generators = {"siamese": {"copies": 1}, "copy_paste": {"copies": 1}}
    values = {"generators": generators, "training_sets": SETS, "compare": {"resamples": 400}, "confirm": None}
    return parse(Params, TOY_STUDY | values | changes)


def simulated(gain: dict[str, float], n: int = 60) -> Results:
    """Three seeds with little noise; gains in Dice points."""
    rng, tables = np.random.default_rng(1), {}
    for split in ("val", "test"):
        hardness = rng.uniform(50, 80, n)
        for name in SETS:
            scores = (hardness + rng.normal(0, 0.2, (3, n)) + gain.get(name, 0)) / 100
            tables[name, split, "dice"] = tables[name, split, "iou"] = scores
    images = {split: tuple(("", f"{split}{k}") for k in range(n)) for split in ("val", "test")}
    return Results(tables, ("0", "1", "2"), images)


def compared(gain: dict[str, float], params: Params | None = None) -> Any:
    results = simulated(gain)
    return compare(params or study(), lambda segmenter, training_sets, metrics=(): results)


def test_roles() -> None:
    params = study()
    design = Design(params.compare, params.training_sets, 1, 0, frozenset({"copy_paste"}))
    assert {name: design.role(name) for name in SETS} == {
        "real": "reference",
        "real_longer": "rival",
        "real_again": "control",
        "siamese_x1": "arm",
        "copy_paste_x1": "rival",
    }


def test_the_headline_is_synthesis_though_pasted_lesions_validate_better() -> None:
    found = compared({"siamese_x1": 3, "copy_paste_x1": 5, "real_longer": 1})
    assert found.headline.training_sets == ("siamese_x1",)
    assert found.headline.rival.training_set == "copy_paste_x1"
    assert found.headline.rival.evidence.difference == pytest.approx(-0.02, abs=0.002)
    assert "It is better than real alone, but worse than copy_paste_x1 (-2." in found.verdict
    assert found.verdict.endswith("the best of 2 rivals on validation images.")
    record = found.record()["headline"]["rival"]
    assert (record["training_set"], record["verdict"], record["rivals"]) == ("copy_paste_x1", "worse", 2)


def test_better_than_every_rival() -> None:
    found = compared({"siamese_x1": 5, "copy_paste_x1": 1, "real_longer": 3})
    assert "It is better than real alone, and better than real_longer (+2." in found.verdict


def test_as_good_as_its_rival_is_not_better() -> None:
    found = compared({"siamese_x1": 3, "copy_paste_x1": 3})
    assert "It is better than real alone, not better than copy_paste_x1 (" in found.verdict


def test_rivals_are_a_family_of_their_own() -> None:
    alone, both = compared({"siamese_x1": 0.05, "copy_paste_x1": 0.05}), study()
    arms = {arm.training_set: arm for arm in alone.arms}
    assert arms["siamese_x1"].conclusion.p_holm == arms["siamese_x1"].evidence.p
    assert arms["copy_paste_x1"].conclusion.p_holm >= arms["copy_paste_x1"].evidence.p
    assert both.training_sets["copy_paste_x1"].generator == "copy_paste"


def test_where_nothing_learns_pasted_lesions_are_the_question() -> None:
    sets = {name: one for name, one in SETS.items() if one.get("generator") != "siamese"}
    params = study(generators={"copy_paste": {"copies": 1}}, training_sets=sets)
    found = compared({"copy_paste_x1": 3}, params)
    assert found.headline.training_sets == ("copy_paste_x1",)
    assert found.headline.rival.training_set == "real_longer"


def claim(**rival: Any) -> tuple[Claim, list[Any]]:
    arms = [row(), row(training_set="copy_paste_x1", role="rival", val_dice=0.7)]
    found, against = headline(arms, [Treatment(("siamese_x1",))]), row(**rival)
    assert found and against.evidence and against.conclusion
    difference = RivalDifference("copy_paste_x1", 1, against.evidence, against.conclusion)
    return replace(found, rival=difference), arms


def test_a_claim_that_is_not_better_than_real_speaks_of_the_rival_alone() -> None:
    found, arms = claim(verdict="inconclusive", difference=0.001, difference_low=-0.01, difference_high=0.012)
    found = replace(found, conclusion=replace(found.conclusion, verdict=Verdict.INCONCLUSIVE))
    said = sentence(found, arms, Compare())
    assert "It is not better than copy_paste_x1 (+0.1 [-1.0, 1.2] points, p = 0.01), its one rival." in said


def test_a_failed_control_withdraws_the_word_on_the_rival_too() -> None:
    found, arms = claim()
    failed = [row(training_set="real_again", role="control")]
    assert "copy_paste_x1" not in sentence(found, [*arms, *failed], Compare())
    withdrawn = withdraw_headline(found, failed)
    assert withdrawn.rival and withdrawn.rival.conclusion.verdict == Verdict.INCONCLUSIVE
    assert withdrawn.conclusion.verdict == Verdict.INCONCLUSIVE


def test_the_best_rival_is_chosen_on_validation_under_one_segmenter() -> None:
    arms = [
        row(training_set="a", role="rival", val_dice=0.7),
        row(training_set="b", role="rival", val_dice=0.75),
        row(training_set="c", role="rival", val_dice=0.9, segmenter="other"),
        row(training_set="d", val_dice=0.8),
    ]
    assert best_rival(arms, "unet") == "b" and best_rival(arms, "other") == "c"
    assert best_rival(arms[-1:], "unet") is None
