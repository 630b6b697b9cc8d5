"""Ignored and corrected pixels of synthetic masks, worked out by hand."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core import files, paths
from pipeline.core.contracts import IGNORED
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data import judge_maps
from pipeline.data.holes import hole_of
from pipeline.data.image_set import ImageSet
from pipeline.stages.mix import relabelling
from pipeline.stages.mix.mix import mix
from pipeline.stages.prepare.validation import check_plugins
from pipeline.stages.report import screening as told
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.stages.mix.judged import HESITANT, agreeing, synthetic, write_maps

MAPS = {"score": {"judge_maps": True}}
FIRST = "train_0_c0"


def study(**keys: Any) -> Params:
    """The toy study with one arm of these rules."""
    sets = {"real": {}, "arm": {"generator": "siamese", "multiplier": 1} | keys}
    return parse(Params, TOY_STUDY | MAPS | {"training_sets": sets})


def refusal(keys: dict[str, Any], changes: dict[str, Any] | None = None) -> str:
    sets = {"real": {}, "arm": {"generator": "siamese", "multiplier": 1} | keys}
    with pytest.raises(UserError) as caught:
        parse(Params, TOY_STUDY | MAPS | {"training_sets": sets} | (changes or {}))
    return str(caught.value)


@pytest.fixture
def masks(toy_study: Params) -> dict[str, np.ndarray]:
    return {row["id"]: synthetic().mask(row) for row in synthetic()}


@pytest.fixture
def levels(masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A judge that sees every mask, sure of itself."""
    found = {name: agreeing(mask) for name, mask in masks.items()}
    write_maps(found)
    return found


def set_pixel(levels: np.ndarray, place: tuple[int, int], tenths: int) -> None:
    """Set the log-odds of foreground."""
    levels[:, place[0], place[1]] = judge_maps.ZERO - tenths, judge_maps.ZERO + tenths


def made(params: Params, name: str = FIRST) -> np.ndarray:
    images = mix(params, "arm")
    return images.mask(next(row for row in images if row["id"] == name))


def test_pixels_far_above_the_judges_mean_of_their_class_are_ignored(
    masks: dict[str, np.ndarray], levels: dict[str, np.ndarray]
) -> None:
    """Limits are 1.25 x 0.1 for background and 1.25 x 0.2 for the lesion."""
    lesion, outside = (tuple(np.argwhere(masks[FIRST] == label)[0].tolist()) for label in (1, 0))
    near = tuple(np.argwhere(masks[FIRST] == 1)[1].tolist())
    set_pixel(levels[FIRST], lesion, 12)  # -log sigmoid(1.2) = 0.263 > 0.25
    set_pixel(levels[FIRST], near, 13)  # 0.241: stays
    set_pixel(levels[FIRST], outside, -20)  # -log sigmoid(2) = 0.127 > 0.125
    write_maps(levels)
    expected = masks[FIRST].copy()
    expected[lesion] = expected[outside] = IGNORED
    assert np.array_equal(made(study(screen={"pixels": 1.25})), expected)
    assert np.array_equal(made(study(screen={"pixels": 1.4})), masks[FIRST])  # limits 0.14 and 0.28


def test_the_record_counts_ignored_pixels_by_class_and_the_generators_set_stays(
    masks: dict[str, np.ndarray], levels: dict[str, np.ndarray]
) -> None:
    before = files.tree_sha256(synthetic().folder)
    for place in np.argwhere(masks[FIRST] == 0)[:3].tolist():
        set_pixel(levels[FIRST], tuple(place), 30)  # a lesion, says the judge, where the mask has none
    write_maps(levels)
    images = mix(study(screen={"pixels": 1.25}), "arm")
    assert files.tree_sha256(synthetic().folder) == before
    record = files.read_json(images.folder / "screening.json")
    totals = [
        sum(int((mask == label).sum()) for name, mask in masks.items() if name.endswith("c0")) for label in (0, 1)
    ]
    assert record["pixels"] == [
        {"class": 0, "limit": pytest.approx(0.125), "pixels": totals[0], "ignored": 3},
        {"class": 1, "limit": pytest.approx(0.25), "pixels": totals[1], "ignored": 0},
    ]
    assert record["asked"]["screen"] == {"pixels": 1.25, "background": "mean", "least_foreground": 0.5}
    assert (record["kept"], record["dropped"]) == (8, {"pixels": 0})
    rows = {row["id"]: row for row in images}
    assert [rows[name].get("ignored_pixels") for name in (FIRST, "train_1_c0", "train_0")] == [3, 0, None]
    assert "3 ignored (255)" in Image.open(images.folder / rows[FIRST]["mask"]).text["Description"]  # type: ignore[attr-defined]


def test_the_quantile_spares_hard_background(masks: dict[str, np.ndarray], levels: dict[str, np.ndarray]) -> None:
    places = [tuple(place) for place in np.argwhere(masks[FIRST] == 0)[:2].tolist()]
    set_pixel(levels[FIRST], places[0], -11)  # 0.287, below the quantile of 0.3
    set_pixel(levels[FIRST], places[1], -10)  # 0.313
    write_maps(levels)
    expected = masks[FIRST].copy()
    expected[places[1]] = IGNORED
    assert np.array_equal(made(study(screen={"pixels": 1.25, "background": "quantile"})), expected)
    expected[places[0]] = IGNORED
    assert np.array_equal(made(study(screen={"pixels": 1.25})), expected)


def test_an_image_that_loses_half_of_its_lesion_is_dropped(
    masks: dict[str, np.ndarray], levels: dict[str, np.ndarray]
) -> None:
    lesion = [tuple(place) for place in np.argwhere(masks[FIRST] == 1).tolist()]
    for place in lesion[: len(lesion) // 2 + 1]:
        set_pixel(levels[FIRST], place, -30)
    write_maps(levels)
    images = mix(study(screen={"pixels": 1.25}), "arm")
    assert FIRST not in images.ids and len(images) == 8 + 7
    record = files.read_json(images.folder / "screening.json")
    assert record["dropped_images"] == [{"id": FIRST, "dice": None, "rules": ["pixels"]}]
    assert record["pixels"][1]["ignored"] == 0  # of the images that are kept
    assert FIRST in mix(study(screen={"pixels": 1.25, "least_foreground": 0.0}), "arm").ids


def test_an_image_without_a_pixel_left_is_dropped_whatever_is_asked(levels: dict[str, np.ndarray]) -> None:
    against = {name: values[::-1] for name, values in levels.items()}  # a sure judge that says the contrary
    write_maps(against | {FIRST: levels[FIRST]})
    images = mix(study(screen={"pixels": 1.25, "least_foreground": 0.0}), "arm")
    assert [row["id"] for row in images if row["synthetic"]] == [FIRST]
    write_maps(against)
    with pytest.raises(UserError, match=r"training_sets\.arm: screening leaves none of 8 .*pixels drops 8"):
        mix(study(screen={"pixels": 1.25, "least_foreground": 0.0}), "arm")


def test_the_judge_replaces_labels_where_it_is_sure(
    masks: dict[str, np.ndarray], levels: dict[str, np.ndarray]
) -> None:
    sure, unsure = [tuple(place) for place in np.argwhere(masks[FIRST] == 1)[:2].tolist()]
    set_pixel(levels[FIRST], sure, -30)  # background with probability 0.953
    set_pixel(levels[FIRST], unsure, -29)  # 0.948
    write_maps(levels)
    expected = masks[FIRST].copy()
    expected[sure] = 0
    assert np.array_equal(made(study(labels="corrected")), expected)
    expected[unsure] = 0
    images = mix(study(labels={"corrected": 0.9}), "arm")
    rows = {row["id"]: row for row in images}
    assert np.array_equal(images.mask(rows[FIRST]), expected)
    assert [rows[name]["corrected_pixels"] for name in (FIRST, "train_1_c0")] == [2, 0]
    record = files.read_json(images.folder / "screening.json")
    assert record["corrected"] == {"images": 1, "pixels": 2}
    assert record["asked"]["labels"] == {"corrected": 0.9}
    assert "2 corrected" in Image.open(images.folder / rows[FIRST]["mask"]).text["Description"]  # type: ignore[attr-defined]


def test_labels_are_corrected_before_pixels_are_ignored(
    masks: dict[str, np.ndarray], levels: dict[str, np.ndarray]
) -> None:
    sure, unsure = [tuple(place) for place in np.argwhere(masks[FIRST] == 1)[:2].tolist()]
    set_pixel(levels[FIRST], sure, -40)
    set_pixel(levels[FIRST], unsure, -HESITANT)
    write_maps(levels)
    expected = masks[FIRST].copy()
    expected[sure], expected[unsure] = 0, IGNORED
    assert np.array_equal(made(study(labels="corrected", screen={"pixels": 1.25})), expected)


@pytest.mark.parametrize("placed", [False, True])
def test_what_a_real_background_shows_keeps_its_label(masks: dict[str, np.ndarray], placed: bool) -> None:
    """With a kept background the drawn lesion and its margin alone are judged; an old lesion stays as it is."""
    images, margin = synthetic(), 0.1
    old = images.mask(next(row for row in images if row["source_id"] == "train_1")) > 0
    kept = {
        "keep_background": json.dumps({"margin": margin, "placement": "add"}),
        "background_id": "train_1" if placed else "train_0",
        "placed": json.dumps([{"source_id": "train_0", "scale": 1.0, "shift": [0, 0]}] if placed else []),
    }
    ImageSet.finish(images.folder, images.spec, [{**row, **(kept if row["id"] == FIRST else {})} for row in images])
    against = {name: agreeing(1 - mask) for name, mask in masks.items() if name == FIRST}
    write_maps({name: agreeing(mask) for name, mask in masks.items()} | against)
    lesion = (masks[FIRST] > 0) & (~old if placed else True)
    drawn = hole_of(lesion, margin)
    assert 0 < drawn.sum() < drawn.size
    expected = np.where(drawn, 1 - masks[FIRST], masks[FIRST])
    assert np.array_equal(made(study(labels="corrected")), expected)
    ignoring = made(study(screen={"pixels": 1.25, "least_foreground": 0.0}))
    assert np.array_equal(ignoring == IGNORED, drawn)


def test_three_classes_are_corrected_to_the_likeliest() -> None:
    levels = np.full((3, 1, 2), 28, np.uint8)
    levels[2, 0, 0], levels[0, 0, 1] = 228, 148
    everywhere = np.ones((1, 2), bool)
    mask = np.ones((1, 2), np.uint8)
    assert relabelling.correct(mask, levels, everywhere, 0.95).tolist() == [[2, 1]]
    limits = {0: 0.1, 1: 0.1, 2: 0.1}
    assert relabelling.ignore(mask, levels, everywhere, limits).tolist() == [[IGNORED, IGNORED]]
    assert relabelling.ignore(np.array([[2, 0]], np.uint8), levels, everywhere, limits).tolist() == [[2, IGNORED]]


def test_the_same_twice_and_no_work_is_left(levels: dict[str, np.ndarray]) -> None:
    params = study(labels="corrected", screen={"pixels": 0.01})
    with pytest.raises(UserError):
        mix(study(screen={"pixels": 1e-9}), "arm")
    first = files.tree_sha256(mix(params, "arm").folder)
    assert files.tree_sha256(mix(params, "arm").folder) == first
    assert not [path for path in paths.WORK.glob("relabelled-*") if "arm" in path.name]


def test_other_masks_are_another_content(masks: dict[str, np.ndarray], levels: dict[str, np.ndarray]) -> None:
    plain = mix(study(), "arm").digest
    set_pixel(levels[FIRST], (0, 0), 50)
    write_maps(levels)
    assert mix(study(labels="corrected"), "arm").digest != plain


def test_maps_that_are_not_there_or_not_whole_are_named(levels: dict[str, np.ndarray]) -> None:
    params, folder = study(screen={"pixels": 1.25}), paths.scores("toy", "siamese") / "judge_maps"
    (folder / "maps" / f"{FIRST}.png").write_bytes((folder / "maps" / "train_1_c0.png").read_bytes())
    with pytest.raises(
        UserError, match=rf"maps/{FIRST}\.png is missing or not as it was published; run the stage score"
    ):
        mix(params, "arm")
    write_maps({name: values for name, values in levels.items() if name != FIRST})
    with pytest.raises(UserError, match=rf"{FIRST}\.png is missing"):
        mix(params, "arm")
    (folder / "maps.csv").write_text("id,file,sha256\n")
    with pytest.raises(
        UserError, match=r"training_sets\.arm\.screen\.pixels: .* holds no map .* set score\.judge_maps"
    ):
        mix(params, "arm")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"screen": {"pixels": 0}}, "training_sets.arm.screen.pixels: Input should be greater than 0, found 0"),
        ({"screen": {}}, "training_sets.arm.screen.pixels: Field required"),
        ({"screen": {"pixels": 1.25, "x": 1}}, "training_sets.arm.screen.x is not a parameter"),
        (
            {"screen": {"pixels": 1.25, "least_foreground": 2}},
            "training_sets.arm.screen.least_foreground: Input should be",
        ),
        ({"screen": 1.5}, "training_sets.arm.screen: Input should be less than 1, found 1.5"),
        (
            {"labels": "mended"},
            "training_sets.arm.labels: 'mended' is no rule for labels; give corrected, or {corrected",
        ),
        ({"labels": {"corrected": 0.4}}, "training_sets.arm.labels.corrected: Input should be greater than 0.5"),
        (
            {"generator": None, "multiplier": 0, "labels": "corrected"},
            "training_sets.arm.labels changes synthetic images",
        ),
    ],
)
def test_values_that_make_no_sense_are_refused_under_their_own_key(keys: dict[str, Any], message: str) -> None:
    assert message in refusal(keys)


@pytest.mark.parametrize("keys", [{"screen": {"pixels": 1.25}}, {"labels": "corrected"}])
def test_rules_of_the_judge_need_its_maps(keys: dict[str, Any]) -> None:
    assert "needs the judge's opinion of every pixel; set score.judge_maps: true" in refusal(keys, {"score": {}})


def test_options_and_ladder_know_of_the_rules() -> None:
    arm = study(labels="corrected", screen={"pixels": 1.25}).training_sets["arm"]
    assert arm.options == "screen pixels 1.25, labels corrected 0.95"
    assert not arm.on_ladder
    assert study().training_sets["arm"].on_ladder


def test_a_segmenter_that_needs_every_label_is_refused_before_anything_starts() -> None:
    diffusion = {**TOY_STUDY["segmenters"], "recycling": {}}
    sets = {"real": {}, "arm": {"generator": "siamese", "multiplier": 1, "screen": {"pixels": 1.25}}}
    data = TOY_STUDY["data"] | {"train": 4, "val": 2, "test": 2}
    params = parse(Params, TOY_STUDY | MAPS | {"training_sets": sets, "segmenters": diffusion, "data": data})
    with pytest.raises(
        UserError, match=r"recycling needs the label of every pixel, and training_sets\.arm\.screen leaves"
    ):
        check_plugins(params)


def test_the_report_tells_the_rules(levels: dict[str, np.ndarray]) -> None:
    params = study(labels="corrected", screen={"pixels": 1.25})
    mix(params, "arm")
    (found,) = told.screenings("toy", params.training_sets)
    assert found.rules == (
        "labels corrected where the judge gives at least 0.95;"
        " pixels ignored beyond 1.25 times the judge’s loss on real ones"
    )
    assert found.ignored.startswith("0 of ") and "class 0" in found.ignored
    assert found.corrected == "0 pixels of 0 images"


def test_relabelling_does_not_load_torch() -> None:
    program = "import sys, pipeline.stages.mix.mix; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False).returncode == 0
