"""Weights chosen by validation images: which ones, that test images have no say, and what a grid publishes of it."""

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import files, paths, tables
from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.segmentation import selecting
from pipeline.segmentation.convergence import mean_dice
from pipeline.segmentation.params import Segment, entry_settings
from pipeline.segmentation.selecting import Looks
from pipeline.segmentation.train import TrainingOptions, recipe_of, train_segmenter, training_identity
from pipeline.stages.judge.train import train_judge
from pipeline.stages.mix.mix import mix
from pipeline.stages.segment import cells
from pipeline.stages.segment.cells import SegmenterSetup
from pipeline.stages.segment.grid import plan, run_grid
from pipeline.study import Params
from pipeline.training.loop import fit
from tests.conftest import TOY_STUDY, blobs
from tests.toy_training import Interrupted

BEST = {"select": "best", "select_every": 2}
RECYCLING = {"method": "recycling", "channels": [4, 8], "blocks": 1, "heads": 2, "steps": 2}


def study(segmenters: dict[str, Any] | None = None, **segment: Any) -> Params:
    values = {"max_steps": 6, "batch_size": 4, "learning_rate": 1e-3, "seeds": [0], **segment}
    changes: dict[str, Any] = {"segment": values, "training_sets": {"real": {}}}
    if segmenters is not None:
        changes |= {"segmenters": segmenters, "judge": None, "generators": {}, "base": None}
    return parse(Params, TOY_STUDY | changes)


def split(name: str) -> ImageSet:
    return ImageSet.open(paths.real("toy")).split(name)


def trained(params: Params, looks: Looks | None, name: str = "unet") -> Segmenter:
    entry = params.segmenters[name]
    settings = entry_settings(params.segment, name, entry)
    options = TrainingOptions(looks=looks)
    return train_segmenter(name, entry, settings, split("train"), "s", Runtime.alone(1), options)[0]


def planned(values: list[float], monkeypatch: pytest.MonkeyPatch) -> list[Segmenter]:
    """Let the looks of a training find these values of Dice; returns the segmenters that they looked at."""
    seen: list[Segmenter] = []
    monkeypatch.setattr(selecting, "mean_dice", lambda segmenter, *_: seen.append(segmenter) or values[len(seen) - 1])
    return seen


def weights(segmenter: Segmenter) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in segmenter.objective.state_dict().items()}


def same(one: Segmenter, other: Segmenter) -> bool:
    return all(torch.equal(*pair) for pair in zip(weights(one).values(), weights(other).values(), strict=True))


def test_the_best_weights_are_those_of_a_training_that_ended_there(
    toy_study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The highest Dice is neither that of the first look nor that of the last; batch statistics come back, too."""
    planned([0.3, 0.8, 0.5], monkeypatch)
    looks = Looks(split("val"))
    best = trained(study(**BEST, schedule="constant"), looks)
    assert [(row["step"], row["dice"], row["kept"]) for row in looks.rows()] == [(2, 0.3, 0), (4, 0.8, 1), (6, 0.5, 0)]
    assert same(best, trained(study(schedule="constant", max_steps=4), None))
    assert not same(best, trained(study(schedule="constant"), None))


def test_a_look_finds_what_scoring_finds_and_counts_its_images(toy_study: Params) -> None:
    looks = Looks(split("val"))
    params = study(**BEST, select_images=2)
    segmenter = trained(params, looks)
    assert [row["n"] for row in looks.rows()] == [2, 2, 2]
    kept = next(row for row in looks.rows() if row["kept"])
    rows = split("val").rows
    few = split("val").select([rows[0], rows[-1]])
    assert kept["dice"] == pytest.approx(mean_dice(segmenter, few, params.segment), abs=1e-6)
    assert kept["dice"] == max(row["dice"] for row in looks.rows())


@pytest.mark.parametrize("wrong", ["test", "train"])
def test_images_of_another_split_cannot_choose(wrong: str, toy_study: Params) -> None:
    with pytest.raises(UserError, match=rf"looks at real validation images alone; {wrong}_0 is none"):
        trained(study(**BEST), Looks(split(wrong)))


def test_synthetic_images_cannot_choose(toy_study: Params) -> None:
    with pytest.raises(UserError, match="looks at real validation images alone"):
        trained(study(**BEST), Looks(ImageSet.open(paths.synthetic("toy", "siamese"))))


def test_a_choice_without_validation_images_is_refused(toy_study: Params) -> None:
    with pytest.raises(UserError, match="needs validation images, and there are none"):
        trained(study(**BEST), Looks(split("val").select([])))


def run(params: Params, name: str = "unet") -> dict[str, Any]:
    mix(params, "real")
    run_grid(params, name, Runtime.alone(1))
    cell = files.read_sealed(plan(SegmenterSetup.of(params, name))[0].path)
    assert cell is not None
    return cell


def test_other_test_images_leave_the_choice_and_other_validation_images_do_not(
    toy_study: Params, spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No leak: what a grid keeps is the same whatever the test images show."""
    seen: list[str] = []
    measure = selecting.mean_dice

    def watched(segmenter: Segmenter, images: ImageSet, segment: Segment) -> float:
        seen.extend(images.ids)
        return measure(segmenter, images, segment)

    monkeypatch.setattr(selecting, "mean_dice", watched)
    params = study(**BEST)
    first = run(params)
    assert set(seen) == {"val_0", "val_1", "val_2"}
    assert {row["split"] for row in first["scores"]} == {"val", "test"}

    def replaced(name: str) -> dict[str, Any]:
        samples = [
            (sample if sample.split != name else darkened(sample), row)
            for sample, row in blobs(spec, {"train": 8, "val": 3, "test": 4})
        ]
        ImageSet.create(paths.real("toy"), spec, samples)
        return run(params)

    other_test, other_val = replaced("test"), replaced("val")
    assert other_test["selection"] == first["selection"]
    assert other_test["losses"] == first["losses"]
    assert scores(other_test, "val") == scores(first, "val")
    assert scores(other_test, "test") != scores(first, "test")
    assert other_val["selection"] != first["selection"]


def scores(cell: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [row for row in cell["scores"] if row["split"] == name]


def darkened(sample: Sample) -> Sample:
    """The image without its blob, under a mask of the other half."""
    mask = np.zeros_like(sample.masks)
    mask[:, :, : mask.shape[-1] // 2] = 1
    return Sample(sample.id, np.asarray(sample.image, np.uint8) // 9, mask, sample.prompt, sample.split, sample.source)


def test_two_samplers_of_one_diffusion_segmenter_choose_on_their_own(
    toy_study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {"ddim": RECYCLING, "ddpm": RECYCLING | {"sampler": "ddpm"}}
    found = {}
    for name in entries:
        seen = planned([0.9, 0.1, 0.1] if name == "ddim" else [0.1, 0.9, 0.1], monkeypatch)
        found[name] = trained(study(entries, **BEST, schedule="constant"), Looks(split("val")), name)
        assert {one.about["params"]["sampler"] for one in seen} == {name}
    ends = {steps: trained(study(entries, schedule="constant", max_steps=steps), None, "ddim") for steps in (2, 4)}
    assert same(found["ddim"], ends[2])
    assert same(found["ddpm"], ends[4])


def test_a_grid_publishes_its_looks_and_stops_early(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    planned([0.3, 0.2, 0.1, 0.9, 0.2, 0.1], monkeypatch)
    params = study(**BEST, patience=2, max_steps=8, seeds=[0])
    cell = run(params)
    assert cell["steps"] == len(cell["losses"]) == 6
    rows = tables.read_table(paths.segmentation("toy", "unet") / "selection.csv")
    assert [(row["step"], row["n"], row["dice"], row["kept"]) for row in rows] == [
        ("2", "3", "0.3", "1"), ("4", "3", "0.2", "0"), ("6", "3", "0.1", "0"),
    ]  # fmt: skip


def interrupted(batches: Any, step: int) -> Any:
    return Interrupted(batches, step)


def test_a_killed_cell_goes_on_from_its_checkpoint_and_chooses_alike(
    toy_study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(study(**BEST, watch_every=3))
    plain = study(**BEST, watch_every=3, checkpoint_every=2)
    mix(plain, "real")
    setup = SegmenterSetup.of(plain, "unet")
    (cell,) = plan(setup)
    cell.path.unlink()

    def killed_before(step: int) -> None:
        monkeypatch.setattr(
            "pipeline.segmentation.train.fit",
            lambda objective, batches, *others: fit(objective, interrupted(batches, step), *others),
        )

    killed_before(5)
    with pytest.raises(KeyboardInterrupt):
        cells.run_cell(setup, cell, Runtime.alone(1))
    assert [path.name for path in (cell.path.parent / "checkpoints").iterdir()] == ["00000004.pt"]
    killed_before(3)  # which a run that goes on from step 4 does not come to
    run_grid(plain, "unet", Runtime.alone(1))
    resumed = files.read_sealed(cell.path)
    assert resumed == whole
    assert not (cell.path.parent / "checkpoints").exists()


def test_the_judge_chooses_by_validation_images_too(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = planned([0.3, 0.8, 0.5], monkeypatch)
    train_judge(study(**BEST), Runtime.alone(1))
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"select": "best"}, "select: best needs select_every"),
        ({"select_every": 3, "patience": 2}, "select_every and patience need select: best"),
        (
            {"schedule": "warmup_cosine"},
            "schedule warmup_cosine needs warm_up, and only it; the schedule is warmup_cos",
        ),
        ({"warm_up": {"steps": 2}}, "needs warm_up, and only it; the schedule is one_cycle"),
        (
            {"schedule": "warmup_cosine", "warm_up": {"steps": 5, "decay_steps": 5}},
            r"decay_steps is 5; it must be above",
        ),
        ({"plateau": {"every": 3}}, "plateau needs the schedule plateau, found one_cycle"),
        ({"schedule": "plateau"}, "needs plateau.every .* or select: best"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study(**values)


def test_an_entry_may_do_without_the_common_choice_and_schedule() -> None:
    own = {"select": "last", "schedule": "constant"}
    entries = {"unet": TOY_STUDY["segmenters"]["unet"] | {"segment": own}, "segformer": {}}
    warm_up = {"schedule": "warmup_cosine", "warm_up": {"steps": 2}}
    params = study(entries, **BEST, patience=3, **warm_up)
    settings = entry_settings(params.segment, "unet", params.segmenters["unet"])
    assert (settings.select, settings.select_every, settings.patience, settings.warm_up) == ("last", None, None, None)


def test_the_recipe_holds_clipping_and_the_schedule_of_a_paper() -> None:
    warm_up = {"steps": 100, "first_rate": 1e-5, "last_rate": 5e-5, "decay_steps": 10_000}
    segment = study(schedule="warmup_cosine", warm_up=warm_up, max_grad_norm=1.0, learning_rate=8e-4).segment
    recipe = recipe_of(segment, 12_500, "")
    assert recipe.max_grad_norm == 1.0
    assert recipe.warm_up is not None
    assert vars(recipe.warm_up) == warm_up
    assert recipe.plateau is None
    falling = recipe_of(study(schedule="plateau", plateau={"every": 57, "patience": 10}).segment, 10, "").plateau
    assert falling is not None
    assert vars(falling) == {"factor": 0.5, "patience": 10, "every": 57}


def test_only_what_changes_weights_is_in_their_fingerprint() -> None:
    def identity(**values: Any) -> dict[str, Any]:
        return training_identity(study(**values).segment, 1)

    plain = identity()
    assert (
        not {"select", "select_every", "patience", "warm_up", "plateau", "max_grad_norm", "num_samples"} & plain.keys()
    )
    assert identity(checkpoint_every=2) == plain
    assert identity(**BEST) == plain | BEST
    assert identity(num_samples=4) == plain
    assert identity(**BEST, num_samples=4) == plain | BEST | {"num_samples": 4}
