"""Fine-tuning as a stage: validation and sample grids are published, a finished run goes on, bad settings are named."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.finetune.fingerprint import fingerprint, trajectory
from pipeline.study import Params
from pipeline.training import loop
from tests.conftest import TOY_STUDY, blobs
from tests.tiny_base import write_tiny_base

FINETUNE: dict[str, Any] = {"max_steps": 2, "global_batch": 2, "learning_rate": 1e-3, "checkpoint_every": 1}


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a real set of 16 pixels and an untrained base."""
    monkeypatch.chdir(tmp_path)
    spec = DatasetSpec(name="blobs", size=16)
    ImageSet.create(paths.real("toy"), spec, blobs(spec, {"train": 4, "val": 3, "test": 2}))
    write_tiny_base(paths.base("toy"), "sample")
    return tmp_path


def study(**finetune: Any) -> Params:
    return parse(Params, TOY_STUDY | {"finetune": FINETUNE | finetune, "generators": {"siamese": {"copies": 1}},
                                      "training_sets": {"real": {}}})  # fmt: skip


def tuned(params: Params) -> Path:
    finetune(params, "siamese")
    return paths.generator("toy", "siamese")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": value for part in ("controlnet", "decoder")
            for name, value in load_file(folder / f"{part}.safetensors").items()}  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_validation_and_sample_grids_are_published_and_change_no_weight(ready: Path) -> None:
    plain = weights(tuned(study()))
    folder = tuned(study(validate_every=1, sample_every=2))
    assert all(torch.equal(value, plain[name]) for name, value in weights(folder).items())
    told = rows(folder / "validation.csv")
    assert [row["step"] for row in told] == ["1", "2"]
    assert set(told[0]) == {"step", "mask", "image", "consistency", "augmented"}  # at the end of the schedule
    assert told[0]["mask"] != told[1]["mask"]
    with Image.open(folder / "samples" / "000002.png") as grid:
        assert grid.size == (3 * 16, 3 * 16)  # three masks of val; hint, real image, generated image
        assert {colour for _, colour in grid.crop((0, 0, 48, 16)).getcolors() or []} == {(0, 0, 0), (255, 255, 255)}
    assert [path.name for path in (folder / "samples").iterdir()] == ["000002.png"]


def test_validation_in_micro_batches_has_the_losses_of_the_whole_batch(ready: Path) -> None:
    whole = rows(tuned(study(global_batch=3, max_steps=1, validate_every=1)) / "validation.csv")
    parted = rows(tuned(study(global_batch=3, max_steps=1, validate_every=1, micro_batch=2)) / "validation.csv")
    assert {name: float(value) for name, value in parted[0].items()} == pytest.approx(
        {name: float(value) for name, value in whole[0].items()},
        rel=1e-3,  # after a step of Adam in float32
    )


def test_finished_run_goes_on_to_more_steps(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned(study())
    steps: list[int] = []
    advance = loop.TrainingRun.advance

    def spy(self: loop.TrainingRun, batch: Any, step: int) -> None:
        steps.append(step)
        advance(self, batch, step)

    monkeypatch.setattr(loop.TrainingRun, "advance", spy)
    folder = tuned(study(max_steps=4, schedule_steps=2))
    assert steps == [2, 3]
    longer = weights(folder)
    assert len(rows(folder / "losses.csv")) == 4
    shutil.rmtree(ready / "work")
    whole = weights(tuned(study(max_steps=4, schedule_steps=2)))
    assert steps == [2, 3, 0, 1, 2, 3]
    assert all(torch.equal(value, longer[name]) for name, value in whole.items())


def test_only_what_changes_weights_starts_another_run(ready: Path) -> None:
    train = ImageSet.open(paths.real("toy")).split("train")

    def course(**finetune: Any) -> str:
        return trajectory(study(**finetune), "siamese", train)

    same = [{"checkpoint_every": 7}, {"keep_checkpoints": 3}, {"tracker": "wandb"}, {"schedule_steps": 2}]
    assert {course(**change) for change in same} == {course()}
    assert course(max_steps=4, schedule_steps=2) == course()
    others = [{"max_steps": 4}, {"learning_rate": 1e-4}, {"ema_decay": 0.9}, {"micro_batch": 1}, {"validate_every": 1}]
    assert len({course(), *(course(**change) for change in others)}) == 6
    previewed = study(sample_every=1)
    drawn = previewed.generate.model_copy(update={"guidance_scale": 4.0, "batch_size": 7})
    other = previewed.model_copy(update={"generate": drawn})
    assert trajectory(other, "siamese", train) == trajectory(previewed, "siamese", train)
    finished = {
        fingerprint(study(**change), "siamese", train) for change in ({}, {"max_steps": 4, "schedule_steps": 2})
    }
    assert len(finished) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adamw_8bit"}, "optimizer adamw_8bit needs CUDA, found cpu"),
        ({"attention": "xformers"}, "attention: xformers needs CUDA"),
        ({"tracker": "wandb"}, "tracker wandb needs the package"),
    ],
)
def test_what_is_not_usable_here_is_told_before_images_are_encoded(
    ready: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(StableDiffusion, "moments", None)
    with pytest.raises(UserError, match=message):
        tuned(study(**change))


def test_schedule_longer_than_the_run_is_refused() -> None:
    with pytest.raises(UserError, match="schedule_steps 3 exceeds max_steps 2"):
        study(schedule_steps=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_steps": 0}, "finetune.max_steps"),
        ({"precision": "fp8"}, "finetune.precision"),
        ({"tracker": "x"}, "tracker"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study(**change)
