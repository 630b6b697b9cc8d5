"""data.ignore_label: which pixels become ignored, and where they may not lie."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core import files
from pipeline.core.contracts import IGNORED
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data import labels
from pipeline.data.invalid import InvalidData
from pipeline.data.labels import IGNORED_PIXELS
from pipeline.stages.prepare.params import Data
from pipeline.stages.prepare.prepare import prepare, report_path
from pipeline.stages.prepare.validation import check_plugins
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.drawn_pairs import HEIGHT, WIDTH, folder, pair, rectangle

pytestmark = pytest.mark.usefixtures("elsewhere")


def study(**values: Any) -> Params:
    """A study that compares segmenters on drawn pairs."""
    shared = {key: TOY_STUDY[key] for key in ("seed", "threads", "segmenters", "segment")}
    data = {"reader": "paired_folders", "size": 16, "prompt": "", "ignore_label": 255, **values}
    return parse(Params, {**shared, "study": "drawn", "data": data, "training_sets": {"real": {}}})


def ignoring(value: int = 255) -> NDArray[np.uint8]:
    """A rectangle of label 1, and the lower half without a known label."""
    mask = rectangle(1)
    mask[HEIGHT // 2 :] = value
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pairs in each split, with labels 0 and 1 and, in one training mask, ignored pixels."""
    found = folder(tmp_path / "set", train="a b", val="c d", test="e f")
    for stem in "bcdef":
        pair(found, stem, rectangle(1))
    pair(found, "a", ignoring())
    return found


def faults(params: Params) -> list[str]:
    with pytest.raises(UserError) as caught:
        prepare(params)
    assert list(Path().iterdir()) == []
    return str(caught.value).split("\n  ")[1:]


def test_pixels_of_the_value_are_ignored_and_told(root: Path) -> None:
    images = prepare(study(root=root))
    counts = [row[IGNORED_PIXELS] for row in images.split("train")]
    assert sorted(counts) == [0, 128]
    (row,) = [row for row in images if row[IGNORED_PIXELS]]
    mask = images.mask(row)
    assert (mask[8:] == IGNORED).all()
    assert set(np.unique(mask[:8]).tolist()) == {0, 1}
    report = files.read_json(report_path("drawn"))
    assert report["splits"]["train"]["masks_with_label"] == {"0": 2, "1": 2, "255": 1}


def test_without_the_key_the_same_value_is_a_grey_level_as_before(root: Path) -> None:
    images = prepare(study(root=root, ignore_label=None))
    assert all(IGNORED_PIXELS not in row and images.mask(row).max() == 1 for row in images)


def test_any_value_beyond_the_labels_will_do(root: Path) -> None:
    pair(root, "a", ignoring(7))
    images = prepare(study(root=root, ignore_label=7))
    assert sum(row[IGNORED_PIXELS] for row in images) == 128


@pytest.mark.parametrize(("stem", "split"), [("c", "val"), ("f", "test")])
def test_what_is_scored_has_every_label(root: Path, stem: str, split: str) -> None:
    mask = rectangle(1)
    mask[1, 1] = 255  # which vanishes at the study's 16 pixels
    pair(root, stem, mask)
    (fault,) = faults(study(root=root))
    assert fault == (
        f"images/{stem}.png: its mask has 1 ignored pixels, but it is a {split} image, and scores need every label;"
        " move it into train"
    )


def test_a_mask_of_nothing_else_is_named(root: Path) -> None:
    pair(root, "a", np.full((HEIGHT, WIDTH), 255, np.uint8))
    (fault,) = faults(study(root=root))
    assert fault == "images/a.png: all pixels of its mask are ignored (255, data.ignore_label); leave the pair out"


def test_grey_levels_beside_it_are_no_labels() -> None:
    with pytest.raises(InvalidData, match=r"holds the values 128; with data\.ignore_label 255 masks hold the labels 0"):
        labels.label_map(np.array([[0, 128, 255]], np.uint8), 2, 255)
    found, notes = labels.label_map(np.array([[0, 2, 255]], np.uint8), 3, 255)
    assert found.tolist() == [[0, 2, IGNORED]] and not notes


def test_ignored_pixels_are_no_foreground(root: Path) -> None:
    for stem in "ab":
        pair(root, stem, np.where(ignoring() == 1, 0, ignoring()).astype(np.uint8))
    assert any(fault.startswith("split train: every mask is empty") for fault in faults(study(root=root)))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"ignore_label": 1}, "ignore_label is 1, a label of a class; give a value from 2 to 255"),
        ({"ignore_label": 256}, "less than or equal to 255"),
        ({"palette": [[0, 0, 0], [9, 0, 0]]}, "palette gives colours, not values, to ignore"),
        ({"size": 0, "shape": [8, 8, 8]}, "volumes have none to ignore"),
    ],
)
def test_values_that_make_no_sense_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(Data, {"reader": "paired_folders", "size": 8, "ignore_label": 255, **keys})


def test_an_unused_key_leaves_no_trace_in_fingerprints() -> None:
    assert "ignore_label" not in parse(Data, {"reader": "kvasir", "size": 8}).model_dump()


def test_generators_need_every_label() -> None:
    with pytest.raises(UserError, match=r"data\.ignore_label: generators follow masks in which every pixel has"):
        parse(Params, TOY_STUDY | {"data": TOY_STUDY["data"] | {"ignore_label": 255}})


def test_a_diffusion_segmenter_is_refused_before_anything_starts(root: Path) -> None:
    params = study(root=root)
    check_plugins(params)
    diffusion = params.model_copy(update={"segmenters": params.segmenters | study_segmenters("recycling")})
    with pytest.raises(UserError, match=r"segmenters\.recycling: recycling needs the label of every pixel, and data"):
        check_plugins(diffusion)
    check_plugins(params.model_copy(update={"segmenters": study_segmenters("recycling", mode="plain")}))


def study_segmenters(name: str, **own: Any) -> dict[str, Any]:
    shared = {**TOY_STUDY, "segmenters": {name: own}, "judge": {"segmenter": name}}
    return dict(parse(Params, shared).segmenters)
