"""Options of an arm beside its images: what they do to its cells, and to their fingerprints."""

from typing import Any

import pytest
import torch

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.stages.mix.mix import mix
from pipeline.stages.segment import grid
from pipeline.stages.segment.cells import Cell, SegmenterSetup, run_cell
from pipeline.study import Params
from tests.conftest import TOY_STUDY

UNLABELLED = {"data": TOY_STUDY["data"] | {"unlabelled": {"rest": True}, "train_limit": 8}}
SYNTHETIC = {"generator": "siamese", "multiplier": 1}


def study(changes: dict[str, Any], **arms: dict[str, Any]) -> Params:
    return parse(Params, TOY_STUDY | {"training_sets": {"real": {}, **arms}} | changes)


def plan(params: Params) -> dict[str, Cell]:
    """The cells of the first seed by training set, whose images are made first."""
    for name in params.training_sets:
        mix(params, name)
    cells = grid.plan(SegmenterSetup.of(params, "unet"))
    return {cell.training_set: cell for cell in cells if cell.seed == params.segment.seeds[0]}


def losses(params: Params, cell: Cell) -> list[dict[str, float]]:
    return run_cell(SegmenterSetup.of(params, "unet"), cell, Runtime.alone(1))["losses"]


@pytest.fixture
def unlabelled(toy_study: Params) -> ImageSet:
    """Two training images, published again without their masks."""
    real = ImageSet.open(paths.real("toy"))
    folder = paths.unlabelled("toy")
    rows = [{**row, "split": "unlabelled"} for row in real.split("train")][:2]
    for row in rows:
        (folder / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / row["file_name"]).write_bytes((real.folder / row["file_name"]).read_bytes())
    ImageSet.finish(folder, real.spec, rows)
    return ImageSet.open(folder)


def test_options_at_their_defaults_keep_the_cell(toy_study: Params) -> None:
    plain = plan(study({}, arm=SYNTHETIC))
    written = plan(study({}, arm={**SYNTHETIC, "steps": 1.0, "augment": "own", "phase": None, "unlabelled": None}))
    assert plain["arm"].fingerprint == written["arm"].fingerprint


def test_every_option_is_another_cell(toy_study: Params) -> None:
    options: list[dict[str, Any]] = [{}, {"phase": {"pretrain": 0.5}}, {"steps": 2.0}, {"augment": "strong"}]
    options += [{"synthetic_share": 0.5}, {"synthetic_share": 0.5, "synthetic_until": 0.5}]
    cells = plan(study({}, **{f"arm_{n}": SYNTHETIC | one for n, one in enumerate(options)}))
    assert len({cell.fingerprint for cell in cells.values()}) == len(options) + 1


def test_strong_augmentation_of_all_arms_is_that_of_each(toy_study: Params) -> None:
    common = study({"segment": TOY_STUDY["segment"] | {"augment": "strong"}}, arm={"augment": "strong"}, own=SYNTHETIC)
    cells = plan(common)
    assert cells["arm"].fingerprint == cells["real"].fingerprint
    assert cells["real"].fingerprint != plan(study({}))["real"].fingerprint


def test_a_longer_training_has_more_steps_and_a_pretraining_has_as_many(toy_study: Params) -> None:
    phase = SYNTHETIC | {"phase": {"pretrain": 0.5}}
    params = study({}, longer={"steps": 2.0}, pretrained=phase, strong={"augment": "strong"})
    cells, steps = plan(params), params.segment.max_steps
    assert steps and [len(losses(params, cells[name])) for name in ("longer", "pretrained", "strong")] == [
        2 * steps,
        steps,
        steps,
    ]


def test_a_mean_teacher_learns_from_unlabelled_images(unlabelled: ImageSet) -> None:
    params = study(UNLABELLED, pseudo_labels={"unlabelled": "mean_teacher"})
    cells = plan(params)
    rows, plain = losses(params, cells["pseudo_labels"]), losses(params, cells["real"])
    assert "consistency" in rows[-1] and "consistency" not in plain[-1]
    assert len(rows) == len(plain)
    torch.manual_seed(1)
    assert losses(params, cells["pseudo_labels"]) == rows
    other = ImageSet.open(paths.unlabelled("toy"))
    ImageSet.finish(other.folder, other.spec, list(other)[:1])
    assert plan(params)["pseudo_labels"].fingerprint != cells["pseudo_labels"].fingerprint


def test_without_unlabelled_images_a_mean_teacher_is_refused_before_anything_is_trained(unlabelled: ImageSet) -> None:
    ImageSet.finish(unlabelled.folder, unlabelled.spec, [])
    params = study(UNLABELLED, pseudo_labels={"unlabelled": "mean_teacher"})
    with pytest.raises(
        UserError, match=r"training_sets.pseudo_labels.unlabelled needs images without masks, and .* none"
    ):
        plan(params)
