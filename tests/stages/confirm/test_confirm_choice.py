"""The choice of the arm that is confirmed: by validation images, over segmenters, treatments and their generators."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.stages.confirm.choice import candidates, choose, publish_none, validation_dice
from pipeline.stages.confirm.confirm import choose_arm
from pipeline.stages.confirm.params import Confirm
from pipeline.stages.mix.treatments import Treatment
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.stages.confirm.finished_grid import leave_scores, two_generators

X1, X2 = Treatment(("siamese_x1",)), Treatment(("siamese_x2",))
TWICE = Treatment(("siamese_x2", "siamese_b_x2"))  # one treatment, two trained generators
CONFIRM = Confirm(seeds=(100, 101))


def study(**changes: Any) -> Params:
    return parse(Params, TOY_STUDY | {"confirm": {"seeds": [100, 101]}} | changes)


def test_the_highest_validation_dice_is_chosen() -> None:
    found = candidates({("unet", "siamese_x1"): 0.7, ("unet", "siamese_x2"): 0.8}, [X1, X2])
    assert [(one.segmenter, one.training_sets, one.val_dice) for one in found] == [
        ("unet", ("siamese_x1",), 0.7),
        ("unet", ("siamese_x2",), 0.8),
    ]
    assert choose(found) == found[1]
    assert choose([]) is None


def test_of_equal_candidates_the_first_is_chosen_however_their_sums_were_rounded() -> None:
    exact, rounded = 0.3, 0.1 + 0.2
    assert exact < rounded
    found = candidates({("unet", "siamese_x1"): exact, ("unet", "siamese_x2"): rounded}, [X1, X2])
    chosen = choose(found)
    assert chosen is not None and chosen.training_sets == ("siamese_x1",)


def test_all_segmenters_are_candidates_and_their_order_breaks_ties() -> None:
    means = {("unet", "siamese_x1"): 0.7, ("unet", "siamese_x2"): 0.6}
    means |= {("plain", "siamese_x1"): 0.7, ("plain", "siamese_x2"): 0.71}
    chosen = choose(candidates(means, [X1, X2]))
    assert chosen is not None and (chosen.segmenter, chosen.training_sets) == ("plain", ("siamese_x2",))
    tied = choose(candidates(means | {("plain", "siamese_x2"): 0.7}, [X1, X2]))
    assert tied is not None and (tied.segmenter, tied.training_sets) == ("unet", ("siamese_x1",))


def test_a_lucky_generator_counts_with_its_twin() -> None:
    """The best single set belongs to the treatment with the lower mean."""
    means = {("unet", "siamese_x1"): 0.75, ("unet", "siamese_x2"): 0.8, ("unet", "siamese_b_x2"): 0.6}
    found = candidates(means, [X1, TWICE])
    assert found[1].val_dice == pytest.approx(0.7)
    assert choose(found) == found[0]


def test_test_images_and_further_seeds_have_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    leave_scores("unet", {"siamese_x1": 0.7, "siamese_x2": 0.6}, test=0.1, seeds=(0, 1, 2))
    found = validation_dice("toy", "unet", ["siamese_x1", "siamese_x2"], [0, 1])
    assert found == pytest.approx({("unet", "siamese_x1"): 0.7, ("unet", "siamese_x2"): 0.6})


def test_the_choice_of_a_study_names_all_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    segmenters = TOY_STUDY["segmenters"] | {"plain": {"method": "unet_plain32"}}
    params = study(**two_generators(), segmenters=segmenters)
    val = {"real": 0.9, "siamese_x1": 0.6, "siamese_b_x1": 0.7, "siamese_x2": 0.74, "siamese_b_x2": 0.5}
    leave_scores("unet", val)
    leave_scores("plain", val | {"siamese_x1": 0.68})
    choice = choose_arm(params, CONFIRM)
    assert choice.training_sets == ("real", "siamese_x1", "siamese_b_x1")
    record = choice.record()
    assert (record["segmenter"], record["training_sets"]) == ("plain", ["siamese_x1", "siamese_b_x1"])
    assert (record["reference"], record["seeds"]) == ("real", [100, 101])
    assert [(one["segmenter"], one["training_sets"], one["val_dice"]) for one in record["candidates"]] == [
        ("unet", ("siamese_x1", "siamese_b_x1"), 0.65),
        ("unet", ("siamese_x2", "siamese_b_x2"), 0.62),
        ("plain", ("siamese_x1", "siamese_b_x1"), 0.69),
        ("plain", ("siamese_x2", "siamese_b_x2"), 0.62),
    ]


def test_missing_scores_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"segmentation/unet/scores.csv does not exist; run the stage segment for unet"):
        choose_arm(study(), CONFIRM)
    leave_scores("unet", {"siamese_x1": 0.7})
    with pytest.raises(UserError, match=r"no validation score of siamese_x2, seed 0; run segment again"):
        choose_arm(study(), CONFIRM)
    leave_scores("unet", {"siamese_x1": 0.7, "siamese_x2": 0.7}, seeds=(0,))
    with pytest.raises(UserError, match=r"no validation score of siamese_x1, seed 1; run segment again"):
        choose_arm(study(), CONFIRM)


def test_damaged_scores_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = leave_scores("unet", {"siamese_x1": 0.7, "siamese_x2": 0.7})
    files.seal(path.parent)
    path.write_text(path.read_text().replace("0.7", "0.9"))
    with pytest.raises(UserError, match=r"scores.csv is damaged and differs from what was published"):
        choose_arm(study(), CONFIRM)


def test_no_confirmation_is_one_short_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    publish_none("toy")
    folder = paths.confirmation("toy")
    assert files.read_json(folder / "choice.json") == {"seeds": []}
    assert files.is_intact(folder) and len(list(folder.iterdir())) == 2  # with the seal
