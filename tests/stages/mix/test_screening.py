"""Screening by numbers worked out by hand: what stays, what goes, what is told of it."""

import subprocess
import sys
from typing import Any

import pytest

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.stages.mix.mix import mix
from pipeline.stages.mix.screening import Screened, beyond_share, screen
from pipeline.stages.report import screening as told
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY

# Of 16 images (8 masks, 2 copies): copy 0 of mask n has Dice n / 10, copy 1 has n / 10 + 0.05.
DICE = {f"train_{n}_c{copy}": round(n / 10 + copy / 20, 2) for n in range(8) for copy in range(2)}
COPIES = ("train_7_c1", "train_0_c1")  # what the audit suspects


def study(**keys: Any) -> Params:
    """The toy study with one screened training set."""
    sets = {"real": {}, "screened": {"generator": "siamese", "multiplier": 2} | keys}
    return parse(Params, TOY_STUDY | {"training_sets": sets})


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        parse(Params, TOY_STUDY | values)
    return str(caught.value)


@pytest.fixture
def score_and_audit(toy_study: Params) -> None:
    """What score and audit leave about the synthetic images of the toy study."""
    scores = [{"id": name, "dice": value} for name, value in DICE.items()]
    tables.write_table(paths.scores("toy", "siamese") / "images.csv", scores[::-1])
    audit = [{"id": name, "suspect": int(name in COPIES)} for name in DICE]
    tables.write_table(paths.audit("toy", "siamese") / "images.csv", audit)


def taken(multiplier: int = 2) -> ImageSet:
    return ImageSet.open(paths.synthetic("toy", "siamese")).take(multiplier)


def screened(params: Params, images: ImageSet) -> Screened:
    return screen(params.study, "screened", params.training_sets["screened"], images)


@pytest.mark.usefixtures("score_and_audit")
def test_share_keeps_the_most_faithful_of_all_images() -> None:
    found = screened(study(screen=0.25), taken())
    assert found.images.ids == ["train_6_c0", "train_6_c1", "train_7_c0", "train_7_c1"]  # 0.6, 0.65, 0.7, 0.75
    assert found.record["dice_threshold"] == 0.6
    assert found.record["dropped"] == {"screen": 12}
    assert found.record["mean_dice"] == {"before": 0.375, "after": 0.675}


def test_images_without_a_dice_are_kept_and_counted(toy_study: Params) -> None:
    """Neither their mask nor the judge's prediction holds foreground."""
    blank = {"train_0_c0", "train_7_c1"}
    rows = [{"id": name, "dice": "" if name in blank else value} for name, value in DICE.items()]
    tables.write_table(paths.scores(toy_study.study, "siamese") / "images.csv", rows)
    found = screened(study(screen=0.25, screen_min_dice=0.65), taken())
    assert found.images.ids == ["train_0_c0", "train_6_c1", "train_7_c0", "train_7_c1"]  # of 14: 0.6, 0.65, 0.7
    assert (found.record["images"], found.record["kept"], found.record["not_screened"]) == (16, 4, 2)
    assert found.record["dropped"] == {"screen": 11, "screen_min_dice": 12}
    assert found.record["mean_dice"]["after"] == 0.675


@pytest.mark.usefixtures("score_and_audit")
def test_least_dice_is_kept_itself() -> None:
    found = screened(study(screen_min_dice=0.65), taken())
    assert found.images.ids == ["train_6_c1", "train_7_c0", "train_7_c1"]
    assert (found.record["kept"], found.record["images"]) == (3, 16)
    assert found.record["dropped"] == {"screen_min_dice": 13}
    assert found.record["dice_threshold"] == 0.65


@pytest.mark.usefixtures("score_and_audit")
def test_suspects_are_dropped_without_asking_for_scores() -> None:
    (paths.scores("toy", "siamese") / "images.csv").unlink()
    found = screened(study(drop_copies=True), taken())
    assert set(found.images.ids) == DICE.keys() - set(COPIES)
    assert found.record["dropped_images"] == [
        {"id": "train_0_c1", "dice": None, "rules": ["drop_copies"]},
        {"id": "train_7_c1", "dice": None, "rules": ["drop_copies"]},
    ]
    assert found.record["dice_threshold"] is None
    assert found.record["mean_dice"] == {"before": None, "after": None}


@pytest.mark.usefixtures("score_and_audit")
def test_rules_are_independent_and_an_image_may_fall_under_several() -> None:
    found = screened(study(screen=0.5, screen_min_dice=0.1, drop_copies=True), taken())
    assert len(found.images) == 7  # the best 8 without the suspect train_7_c1, which nothing replaces
    assert found.record["dropped"] == {"screen": 8, "screen_min_dice": 2, "drop_copies": 2}
    rules = {row["id"]: row["rules"] for row in found.record["dropped_images"]}
    assert len(rules) == 9
    assert rules["train_0_c1"] == ["screen", "screen_min_dice", "drop_copies"]  # 0.05
    assert rules["train_7_c1"] == ["drop_copies"]
    assert found.record["dice_threshold"] == 0.4  # the eighth of 16; whether it is a copy does not matter


@pytest.mark.usefixtures("score_and_audit")
def test_only_the_multipliers_copies_are_ranked() -> None:
    found = screened(study(multiplier=1, screen=0.25), taken(1))
    assert found.images.ids == ["train_6_c0", "train_7_c0"]
    assert found.record["images"] == 8


def test_equal_dice_goes_by_id() -> None:
    assert beyond_share({"b": 0.5, "d": 0.5, "a": 0.5, "c": 0.9}, 0.5) == {"b", "d"}


@pytest.mark.parametrize(("share", "count", "kept"), [(0.8, 24, 19), (0.8, 5, 4), (0.29, 100, 29), (0.1, 3, 1)])
def test_share_is_rounded_down_but_never_to_nothing(share: float, count: int, kept: int) -> None:
    assert len(beyond_share({f"{n:03}": n / count for n in range(count)}, share)) == count - kept


@pytest.mark.usefixtures("score_and_audit")
def test_training_set_holds_what_is_left_and_tells_of_it() -> None:
    mixed = mix(study(screen=0.25, drop_copies=True), "screened")
    synthetic = [row["id"] for row in mixed if row["synthetic"]]
    assert synthetic == ["train_6_c0", "train_6_c1", "train_7_c0"]
    assert len(mixed) == 8 + 3 and len(list((mixed.folder / "images").iterdir())) == 11
    record = files.read_json(mixed.folder / "screening.json")
    assert record["asked"] == {"multiplier": 2, "screen": 0.25, "screen_min_dice": None, "drop_copies": True}
    assert (record["generator"], record["images"], record["kept"]) == ("siamese", 16, 3)


@pytest.mark.usefixtures("score_and_audit")
def test_the_same_twice_and_the_record_is_no_part_of_the_content() -> None:
    mixed = mix(study(screen=0.25), "screened")
    first = files.tree_sha256(mixed.folder)
    assert files.tree_sha256(mix(study(screen=0.25), "screened").folder) == first
    assert mix(study(screen_min_dice=0.6), "screened").digest == mixed.digest  # the same images by another rule
    assert files.tree_sha256(mixed.folder) != first


@pytest.mark.usefixtures("score_and_audit")
def test_without_screening_a_set_holds_no_record() -> None:
    mix(study(screen=0.25), "screened")
    assert not (mix(study(), "screened").folder / "screening.json").exists()


@pytest.mark.usefixtures("score_and_audit")
def test_nothing_left_is_refused_and_the_former_set_stays() -> None:
    mix(study(screen=0.25), "screened")
    with pytest.raises(UserError, match=r"training_sets.screened: screening leaves none of 16 .*drops 16"):
        mix(study(screen_min_dice=0.8), "screened")
    assert len(ImageSet.open(paths.training_set("toy", "screened"))) == 12


@pytest.mark.usefixtures("score_and_audit")
def test_tables_that_do_not_answer_are_named() -> None:
    path = paths.scores("toy", "siamese") / "images.csv"
    tables.write_table(path, [{"id": name, "dice": 0.5} for name in list(DICE)[1:]])
    with pytest.raises(UserError, match=r"images.csv says nothing of train_0_c0 \(1 of 16 images\).*stage score"):
        mix(study(screen=0.5), "screened")
    tables.write_table(path, [{"id": name, "copy": 0} for name in DICE])
    with pytest.raises(UserError, match="has no column dice; put faithfulness into"):
        mix(study(screen=0.5), "screened")
    path.unlink()
    with pytest.raises(UserError, match=r"images.csv does not exist; put faithfulness"):
        mix(study(screen=0.5), "screened")
    (paths.audit("toy", "siamese") / "images.csv").unlink()
    with pytest.raises(UserError, match="does not exist; run the stage audit for siamese"):
        mix(study(drop_copies=True), "screened")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"screen": 1.0}, "training_sets.screened.screen: Input should be less than 1"),
        ({"screen": 0}, "training_sets.screened.screen: Input should be greater than 0"),
        ({"screen_min_dice": 1.5}, "training_sets.screened.screen_min_dice: Input should be less than or equal to 1"),
        ({"scren": 0.5}, "training_sets.screened.scren is not a parameter; did you mean screen?"),
    ],
)
def test_bounds_are_named(keys: dict[str, Any], message: str) -> None:
    assert message in refusal({"training_sets": {"real": {}, "screened": {"generator": "siamese"} | keys}})


@pytest.mark.parametrize("key", ["screen", "screen_min_dice", "drop_copies"])
def test_screening_needs_a_generator(key: str) -> None:
    value = True if key == "drop_copies" else 0.5
    assert f"training_sets.real.{key} screens synthetic images" in refusal({"training_sets": {"real": {key: value}}})


@pytest.mark.parametrize("key", ["screen", "screen_min_dice"])
def test_dice_needs_the_metric_faithfulness(key: str) -> None:
    sets = {"real": {}, "screened": {"generator": "siamese", "multiplier": 1, key: 0.5}}
    values = {"training_sets": sets, "score": {"metrics": ["frechet"]}}
    assert f"training_sets.screened.{key} needs the Dice of each image" in refusal(values)
    sets["screened"] = {"generator": "siamese", "multiplier": 1, "drop_copies": True}
    parse(Params, TOY_STUDY | values)  # the audit needs no metric


@pytest.mark.usefixtures("score_and_audit")
def test_report_lists_screened_sets_and_the_least_faithful_of_what_was_dropped() -> None:
    params = study(screen=0.125, screen_min_dice=0.1, drop_copies=True)
    mix(params, "screened")
    (found,) = told.screenings(params.study, params.training_sets)
    assert found.training_set == "screened"
    assert found.rules == "the most faithful 12.5 %; Dice of at least 0.1; no suspected copy"
    assert (len(found.record["dropped_images"]), len(found.dropped)) == (15, 12)  # 14 by share, and train_7_c1
    assert [row["dice"] for row in found.dropped[:3]] == [0.0, 0.05, 0.1]
    plain = parse(Params, TOY_STUDY)
    assert told.screenings(plain.study, plain.training_sets) == []


def test_report_names_a_set_that_has_not_been_made(toy_study: Params) -> None:
    with pytest.raises(UserError, match=r"screening.json does not exist; run the stage mix for screened"):
        told.screenings("toy", study(screen=0.5).training_sets)


def test_screening_does_not_load_torch() -> None:
    program = (
        "import sys, pipeline.stages.mix.screening, pipeline.stages.report.screening; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False).returncode == 0
