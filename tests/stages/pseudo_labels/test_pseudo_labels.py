"""Pseudo-labels: how masks are predicted, what learns from them, and what may not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data import pseudo_labels
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.metrics.segmentation.overlap import mean_dice
from pipeline.segmentation.train import TrainingOptions, mixture
from pipeline.stages.audit.training_images import unlabelled_of
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.finetune.training_images import fine_tuning_pairs
from pipeline.stages.mix.mix import mix
from pipeline.stages.prepare.params import Unlabelled
from pipeline.stages.pseudo_labels import pseudo_labels as pseudo_labels_stage
from pipeline.stages.pseudo_labels.output import publish_none, read_record
from pipeline.stages.pseudo_labels.params import PseudoLabels
from pipeline.stages.pseudo_labels.pseudo_labels import mean_probabilities, predict_masks
from pipeline.stages.report.content import data_summary
from pipeline.stages.report.identity import hashes
from pipeline.study import Params
from tests.conftest import TOY_STUDY, blob
from tests.drawn_set import make
from tests.tiny_base import write_tiny_base

UNLABELLED = {"rest": True, "pseudo_labels": {"segmenter": "unet", "networks": 2}}
DATA = TOY_STUDY["data"] | {"train_limit": 8, "unlabelled": UNLABELLED}
DRAWN = {"method": "siamese", "copies": 1, "pseudo_labels": True}
ARMS = {
    "real": {},
    "predicted": {"unlabelled": "pseudo_labels", "pseudo_share": 0.5},
    "drawn": {"generator": "drawn", "multiplier": 1, "synthetic_share": 0.5},
    "both": {
        "generator": "drawn",
        "multiplier": 1,
        "synthetic_share": 0.25,
        "unlabelled": "pseudo_labels",
        "pseudo_share": 0.25,
    },
}
LEARNS = {"segmenters": {"unet": {"method": "unet_plain32", "width": 8, "stretch": False}}}
QUICK = TOY_STUDY["segment"] | {"max_steps": 40, "learning_rate": 1e-2, "batch_size": 4}


def study(**changes: Any) -> Params:
    return parse(Params, TOY_STUDY | {"data": DATA, "generators": {"drawn": DRAWN}, "training_sets": ARMS} | changes)


def pictures(spec: DatasetSpec, count: int) -> list[Sample]:
    """Blobs that are no training images."""
    return [blob(spec, "unlabelled", number) for number in range(count)]


@pytest.fixture
def unlabelled(toy_study: Params, spec: DatasetSpec) -> list[Sample]:
    """Six images without masks beside the toy study, the last without a lesion."""
    samples = pictures(spec, 6)
    dark = np.random.default_rng(0).integers(0, 60, (3, spec.size, spec.size)).astype(np.uint8)
    samples[-1] = Sample(samples[-1].id, dark, samples[-1].masks * 0, samples[-1].prompt, "train", "blobs")
    folder = paths.unlabelled("toy")
    whole = ImageSet.create(folder, spec, ((sample, {}) for sample in samples))
    rows = [{key: row[key] for key in row if not key.startswith("mask")} | {"split": "unlabelled"} for row in whole]
    ImageSet.finish(folder, spec, rows)
    return samples


@pytest.fixture
def predicted(unlabelled: list[Sample]) -> ImageSet:
    """The published set of the stage, of segmenters that have learnt to find blobs."""
    predict_masks(study(segment=QUICK, **LEARNS), Runtime.alone(1))
    return ImageSet.open(paths.pseudo_labels("toy"))


def replace_row(images: ImageSet, old: Row, new: Row) -> None:
    """Publish a set again with another row in the place of one of its rows."""
    (images.folder / files.SEAL).unlink()
    ImageSet.finish(images.folder, images.spec, [new if one is old else one for one in images])


def test_masks_are_those_of_the_mean_probabilities_and_empty_ones_are_left_out(
    predicted: ImageSet, unlabelled: list[Sample]
) -> None:
    found = pseudo_labels.pseudo_labelled(predicted)
    assert found.ids == [sample.id for sample in unlabelled[:-1]]
    true = {sample.id: sample for sample in unlabelled}
    for row in found:
        assert (row["split"], row["synthetic"], row["generator"]) == ("train", False, None)
        assert np.array_equal(predicted.image(row), true[row["id"]].image)
        assert mean_dice(predicted.mask(row), true[row["id"]].masks[0], 2) > 0.8
    pairs, real = pseudo_labels.labelled(predicted), ImageSet.open(paths.real("toy")).split("train")
    assert list(pairs) == list(real)
    record = read_record("toy")
    assert record and record["val_dice"] > 0.8
    assert (record["images"], record["left_out"], record["training_pairs"]) == (5, 1, 8)


def test_mean_probabilities_of_two_segmenters() -> None:
    first = np.array([[[0.9, 0.2]], [[0.1, 0.8]]], np.float32)  # [K, H, W]
    second = np.array([[[0.4, 0.3]], [[0.6, 0.7]]], np.float32)
    found = mean_probabilities([first[None], np.stack([second, second])])
    assert found.argmax(0).tolist() == [[0, 1]]
    assert found[1, 0].tolist() == pytest.approx([0.35, 0.75])


def test_a_finished_segmenter_is_not_trained_again(predicted: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("pipeline.stages.pseudo_labels.pseudo_labels.train_segmenter", refuse)
    predict_masks(study(segment=QUICK, **LEARNS), Runtime.alone(1))
    assert ImageSet.open(paths.pseudo_labels("toy")).digest == predicted.digest


def test_a_further_segmenter_leaves_the_first_ones_as_they_are(predicted: ImageSet) -> None:
    (work,) = Path("work").glob("pseudo_labels-*")
    before = files.tree_sha256(work / "segmenter_0")
    three = {**UNLABELLED, "pseudo_labels": {"segmenter": "unet", "networks": 3}}
    predict_masks(study(segment=QUICK, data=DATA | {"unlabelled": three}, **LEARNS), Runtime.alone(1))
    assert files.tree_sha256(work / "segmenter_0") == before
    assert (work / "segmenter_2").is_dir()


def test_a_second_round_learns_from_the_first(predicted: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    sets: list[tuple[int, float | None]] = []
    train = pseudo_labels_stage.train_segmenter

    def watched(*arguments: Any) -> Any:
        sets.append((len(arguments[3]), arguments[-1].pseudo_share))
        return train(*arguments)

    monkeypatch.setattr(pseudo_labels_stage, "train_segmenter", watched)
    twice = {**UNLABELLED, "pseudo_labels": {"segmenter": "unet", "networks": 2, "rounds": 2, "pseudo_share": 0.25}}
    params = study(segment=QUICK, data=DATA | {"unlabelled": twice}, **LEARNS)
    predict_masks(params, Runtime.alone(1))
    assert sets == [(13, 0.25)] * 2  # the first round was finished
    record = read_record("toy")
    assert record and (record["rounds"], record["images"]) == (2, 5)
    assert len(ImageSet.open(paths.pseudo_labels("toy"))) == 13
    assert "of unet on the real training pairs predicted masks, in 2 rounds, (pseudo" in data_summary("toy", "phantom")


def test_own_steps_and_augmentation_are_another_training(
    unlabelled: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudo_labels_stage, "mean_probabilities", lambda found: found[0][0][::-1])  # never all empty

    def folders(**own: Any) -> set[str]:
        labels = {**UNLABELLED, "pseudo_labels": {"segmenter": "unet", "networks": 1, **own}}
        predict_masks(study(segment=QUICK, data=DATA | {"unlabelled": labels}, **LEARNS), Runtime.alone(1))
        return {path.name for path in Path("work").glob("pseudo_labels-*")}

    assert len(folders()) == 1
    assert len(folders(max_steps=3)) == 2
    assert len(folders(max_steps=3, augment="strong")) == 3


def test_nothing_found_is_one_clear_line(unlabelled: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    background = lambda found: np.stack([np.ones((32, 32)), np.zeros((32, 32))])  # noqa: E731
    monkeypatch.setattr("pipeline.stages.pseudo_labels.pseudo_labels.mean_probabilities", background)
    with pytest.raises(UserError, match="unet found no foreground in any of 6 images; train it longer"):
        predict_masks(study(), Runtime.alone(1))
    assert not paths.pseudo_labels("toy").exists()


def test_training_sets_get_the_real_images_with_their_predicted_masks(predicted: ImageSet) -> None:
    mixed = mix(study(), "predicted")
    assert set(mixed.ids) == set(predicted.ids)
    assert len(pseudo_labels.pseudo_labelled(mixed)) == 5
    assert mix(study(), "real").ids == pseudo_labels.labelled(predicted).ids


def test_shares_of_pairs_pseudo_labels_and_synthetic_images(predicted: ImageSet) -> None:
    rows = [*predicted, *({**row, "id": f"{row['id']}_c0", "synthetic": True} for row in predicted)]
    mixed = predicted.select(rows)
    rule = mixture(mixed, TrainingOptions(pseudo_share=0.25, synthetic_share=0.25), 4, 100)
    from pipeline.data.loading import Batches, Pairs

    pairs = Pairs.read(mixed)
    batches = Batches(pairs, 8, "shares", mixture=rule)
    drawn = [mixed.rows[index] for step in range(10) for index in batches.plan(step)]
    kinds = [("synthetic" if row["synthetic"] else row.get(pseudo_labels.COLUMN, False)) for row in drawn]
    assert [kinds.count(kind) for kind in (False, True, "synthetic")] == [40, 20, 20]
    alone = mixture(predicted, TrainingOptions(pseudo_share=0.5), 4, 100)
    batches = Batches(Pairs.read(predicted), 8, "shares", mixture=alone)
    drawn = [predicted.rows[index] for step in range(10) for index in batches.plan(step)]
    assert sum(map(pseudo_labels.is_pseudo_labelled, drawn)) == 40
    assert {row["id"] for row in drawn} == {*predicted.ids}


def test_a_generator_learns_from_them_draws_for_them_and_says_so(predicted: ImageSet) -> None:
    write_tiny_base(paths.base("toy"), "epsilon")
    params = study()
    real = ImageSet.open(paths.real("toy"))
    assert fine_tuning_pairs("toy", 0, "drawn", params.generators["drawn"], real).digest == predicted.digest
    finetune(params, "drawn")
    images = make(params)
    assert {row["source_id"] for row in images} == {*predicted.ids}
    assert {row["pseudo_labelled_images"] for row in images} == {5}
    card = (images.folder / "README.md").read_text()
    assert "on 5 further real images whose masks segmenters predicted (pseudo-labels)" in card
    assert "5 real images with predicted masks" in (images.folder / "croissant.json").read_text()
    files.publish(images.folder, paths.synthetic("toy", "drawn"))
    assert len(mix(params, "drawn")) == 8 + 13
    assert len(mix(params, "both")) == 13 + 13


def test_a_predicted_mask_that_equals_a_held_out_one_is_no_leak(predicted: ImageSet) -> None:
    """Small masks of phantoms may agree by chance."""
    real = ImageSet.open(paths.real("toy"))
    row = pseudo_labels.pseudo_labelled(predicted).rows[0]
    held_out = real.split("test").rows[0]
    (predicted.folder / row["mask"]).write_bytes((real.folder / held_out["mask"]).read_bytes())
    forged = {**row, "mask_sha256": held_out["mask_sha256"]}
    replace_row(predicted, row, forged)
    assert row["id"] in mix(study(), "predicted").ids


def test_a_test_image_among_them_is_refused(predicted: ImageSet) -> None:
    real = ImageSet.open(paths.real("toy"))
    row, held_out = pseudo_labels.pseudo_labelled(predicted).rows[0], real.split("test").rows[0]
    (predicted.folder / row["file_name"]).write_bytes((real.folder / held_out["file_name"]).read_bytes())
    forged = {**row, "sha256": held_out["sha256"]}
    replace_row(predicted, row, forged)
    with pytest.raises(UserError, match=f"{row['id']} are images of the validation or test split"):
        mix(study(), "predicted")


def test_the_audit_searches_them_whatever_the_base_has_seen(predicted: ImageSet) -> None:
    params = study()
    entry, files_of_base = params.generators["drawn"], paths.base("toy")
    files.write_json(files_of_base / "manifest.json", {"source": "elsewhere"})
    searched = unlabelled_of("toy", entry)
    assert searched is not None and len(searched) == 6
    assert unlabelled_of("toy", entry.model_copy(update={"pseudo_labels": False})) is None


def test_the_report_says_how_masks_were_predicted(predicted: ImageSet) -> None:
    told = data_summary("toy", "phantom")
    assert "2 trainings of unet on the real training pairs predicted masks (pseudo-labels) for 5 of 6 images" in told
    assert ("images with pseudo-labels", "13 pairs", predicted.digest) in hashes("toy", [], [], "")


def test_without_them_the_stage_publishes_an_empty_set_and_whoever_needs_them_says_so(toy_study: Params) -> None:
    publish_none("toy")
    assert len(ImageSet.open(paths.pseudo_labels("toy"))) == 0
    assert read_record("toy") is None
    with pytest.raises(UserError, match=r"training_sets.predicted.unlabelled needs images with pseudo-labels"):
        mix(study(), "predicted")
    with pytest.raises(UserError, match=r"generators.drawn.pseudo_labels needs images with pseudo-labels"):
        fine_tuning_pairs("toy", 0, "drawn", study().generators["drawn"], ImageSet.open(paths.real("toy")))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"data": TOY_STUDY["data"]}, "data.unlabelled"),
    ({"data": DATA | {"unlabelled": {"rest": True}}}, "set data.unlabelled.pseudo_labels"),
    ({"data": DATA | {"unlabelled": {"rest": True, "pseudo_labels": {"segmenter": "u"}}}}, "segmenter is 'u'; the"),
    ({"generators": {"drawn": DRAWN | {"limit": 4}}}, "limit is 4, but pseudo_labels come from segmenters"),
    ({"generators": {"drawn": DRAWN | {"method": "copy_paste"}}}, "copy_paste is not fine-tuned; remove it"),
    ({"training_sets": ARMS | {"real": {"limit": 4, "unlabelled": "pseudo_labels"}}}, "limit is 4, but pseudo_labels"),
    (
        {"training_sets": ARMS | {"more": {"real": "all", "unlabelled": "pseudo_labels"}}},
        "real: all has the true masks",
    ),
    ({"training_sets": ARMS | {"more": {"pseudo_share": 0.5}}}, "set unlabelled: pseudo_labels too"),
    ({"training_sets": ARMS | {"both": {**ARMS["both"], "synthetic_share": None}}}, "constant synthetic_share"),
    ({"training_sets": ARMS | {"both": {**ARMS["both"], "synthetic_share": 0.8}}}, "must be below 1 together"),
]


@pytest.mark.parametrize(("changes", "told"), REFUSED)
def test_what_cannot_be_is_one_clear_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        study(**changes)


def test_volumes_are_refused() -> None:
    volumes = {"shape": [16, 16, 16], "num_classes": 2, "reader": "phantom", "train_limit": 2, "unlabelled": UNLABELLED}
    with pytest.raises(UserError, match=r"pseudo_labels works on pictures, but data has volumes"):
        study(data=volumes, generators={}, training_sets={"real": {}})


def test_without_the_key_earlier_fingerprints_stay() -> None:
    assert Unlabelled(rest=True).model_dump() == {"folder": None, "rest": True, "prompt": None}
    assert "pseudo_labels" not in parse(Params, TOY_STUDY).generators["siamese"].model_dump()
    assert PseudoLabels(segmenter="unet").networks == 2
