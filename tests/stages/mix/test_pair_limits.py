"""Training sets with a limit hold these real pairs alone, and no synthetic image may come from another pair."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.mix.mix import mix
from pipeline.stages.mix.params import TrainingSet
from pipeline.study import Params
from tests.conftest import TOY_STUDY

GENERATOR: dict[str, Any] = {"copies": 2, "limit": 4}
ARM: dict[str, Any] = {"generator": "siamese", "multiplier": 1}
SETS: dict[str, Any] = {"real": {}, "real_4": {"limit": 4}, "real_6": {"limit": 6}, "arm": {**ARM, "limit": 4}}


def study(sets: dict[str, Any] | None = None, generator: dict[str, Any] = GENERATOR) -> Params:
    values = {"generators": {"siamese": generator}, "training_sets": sets or SETS, "confirm": None}
    return parse(Params, TOY_STUDY | values)


def drawn(change: dict[str, Any], within: list[str] | None) -> None:
    """Make the toy study's synthetic set one of a generator with a limit."""
    images = ImageSet.open(paths.synthetic("toy", "siamese"))
    rows = [row | change for row in images if within is None or row["source_id"] in within]
    ImageSet.finish(images.folder, images.spec, rows)


def test_an_arm_holds_the_pairs_of_its_limit_and_their_images(toy_study: Params) -> None:
    few, more = mix(study(), "real_4").ids, mix(study(), "real_6").ids
    assert (len(few), len(more)) == (4, 6) and set(few) < set(more)
    drawn({"limit": 4}, few)
    made = mix(study(), "arm")
    assert [row["id"] for row in made if not row["synthetic"]] == few
    assert {row["source_id"] for row in made if row["synthetic"]} == set(few)
    assert mix(study({"real": {}, "x": {"limit": 4, "limit_draw": 1}}, {"copies": 2}), "x").ids != few


def test_an_arm_may_see_more_pairs_than_its_generator(toy_study: Params) -> None:
    few = mix(study(), "real_4").ids
    drawn({"limit": 4}, few)
    for keys, count in (({"limit": 6}, 6), ({}, 8)):
        made = mix(study({**SETS, "arm": {**ARM, **keys}}), "arm")
        assert sum(not row["synthetic"] for row in made) == count


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"of a generator with no limit, but training_sets\.arm\.limit is 4 pairs; run the stages finetune"),
        ({"limit": 5}, r"with the limit 5 pairs, but"),
        ({"limit": 4, "limit_draw": 1}, r"with the limit 4 pairs \(draw 1\), but"),
        ({"limit": 4}, r"come from real pairs beyond training_sets\.arm\.limit, which is 4 pairs"),
        ({"limit": 4, "source_id": "train_0", "background_id": "train_7"}, r"come from real pairs beyond"),
    ],
)
def test_images_of_other_pairs_are_refused(change: dict[str, Any], message: str, toy_study: Params) -> None:
    drawn(change, None)
    with pytest.raises(UserError, match=message):
        mix(study(), "arm")
    assert not paths.training_set("toy", "arm").exists()


def test_a_mask_of_a_pair_beyond_the_limit_is_refused_wherever_it_came_from(toy_study: Params) -> None:
    few = mix(study(), "real_4").ids
    drawn({"limit": 4}, few)
    images = ImageSet.open(paths.synthetic("toy", "siamese"))
    real = ImageSet.open(paths.real("toy"))
    other = next(row for row in real.split("train") if row["id"] not in few)
    shutil.copy(real.folder / other["mask"], images.folder / "masks" / "own.png")
    of_a_bank = {"source_id": "bank/own", "mask_id": "bank_0", "transform": "{}", "mask": "masks/own.png"}
    first, *rest = images.rows
    ImageSet.finish(images.folder, images.spec, [first | of_a_bank | {"mask_sha256": other["mask_sha256"]}, *rest])
    with pytest.raises(UserError, match=rf"{first['id']} have masks of real pairs beyond training_sets\.arm\.limit"):
        mix(study(), "arm")


def test_a_limit_beyond_the_split_is_refused(toy_study: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training_sets\.big\.limit is 9 pairs, but the split train has 8"):
        mix(study({"real": {}, "big": {"limit": 9}}), "big")


@pytest.mark.parametrize(
    ("sets", "generator", "message"),
    [
        (
            {"arm": {**ARM, "limit": 4}},
            {"copies": 2},
            r"siamese has no limit, .* use a generator with limit: 4",
        ),
        ({"arm": {**ARM, "limit": 3}}, GENERATOR, r"generators\.siamese\.limit is 4 pairs, of which the arm does not"),
        ({"arm": {**ARM, "limit": 4, "limit_draw": 1}}, GENERATOR, r"siamese\.limit is 4 pairs, another draw"),
        ({"arm": {**ARM, "limit": 5}}, GENERATOR, r"training_sets\.arm has no reference of its 5 pairs; add .* real_5"),
        ({"x": {"limit": 4, "real": "all"}}, GENERATOR, r"limit is 4, which counts pairs of the split train"),
        ({"x": {"limit_draw": 1}}, GENERATOR, r"limit_draw is 1, but without limit all pairs are used"),
        ({"x": {**ARM, "limit": 4, "screen": 0.5}}, GENERATOR, r"screen rests on the judge, which has learnt from all"),
        ({"x": {**ARM, "limit": 4, "labels": "corrected"}}, GENERATOR, r"labels rests on the judge"),
    ],
)
def test_impossible_limits_are_refused_when_the_study_is_read(
    sets: dict[str, Any], generator: dict[str, Any], message: str
) -> None:
    plain = {"real": {}, "real_3": {"limit": 3}, "real_4": {"limit": 4}, "real_4b": {"limit": 4, "limit_draw": 1}}
    with pytest.raises(UserError, match=message):
        study(plain | sets, generator)


def test_unused_limits_leave_no_trace_in_sections() -> None:
    assert not {"limit", "limit_draw"} & {*TrainingSet().model_dump(), *GeneratorEntry(copies=1).model_dump()}
    assert TrainingSet(limit=4).options == "limit 4"
    assert GeneratorEntry.model_validate({"copies": 1, "limit": 4, "start": 0.02}).options == {"start": 0.02}
