"""Private fine-tuning as a stage: what it publishes, what it records, and that no seed repeats it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.stages.finetune import privacy_record
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.generate.generate import generate
from pipeline.study import Params
from pipeline.training import privacy
from tests.conftest import TOY_STUDY, blobs
from tests.tiny_base import write_tiny_base

BUDGET = {"epsilon": 8, "delta": 0.01, "max_grad_norm": 0.1}
FINETUNE: dict[str, Any] = {
    "max_steps": 3,
    "global_batch": 2,
    "learning_rate": 1e-3,
    "checkpoint_every": 1,
    "lora_rank": 2,
    "snapshots": [2],
}


@pytest.fixture(autouse=True)
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds a real set of 16 pixels and an untrained base."""
    monkeypatch.chdir(tmp_path)
    spec = DatasetSpec(name="blobs", size=16)
    ImageSet.create(paths.real("toy"), spec, blobs(spec, {"train": 6}))
    write_tiny_base(paths.base("toy"), "sample")


def study(**budget: Any) -> Params:
    generators = {"private": {"method": "controlnet", "copies": 1, "start": 0.05, "privacy": BUDGET | budget}}
    changed = {"finetune": FINETUNE, "generators": generators, "training_sets": {"real": {}}}
    return parse(Params, TOY_STUDY | changed | {"data": TOY_STUDY["data"] | {"size": 16}})


def test_a_private_generator_states_its_budget_wherever_it_goes() -> None:
    pytest.importorskip("opacus", reason="opacus (extra `privacy`) is not installed")
    params = study()
    finetune(params, "private")
    folder = paths.generator("toy", "private")
    record = files.read_json(folder / "manifest.json")["privacy"]
    assert record == privacy_record.read(folder)
    assert 7.8 < record["epsilon"] <= 8 and record["delta"] == 0.01 and record["reproducible"] is False
    noise = record["noise_multiplier"]
    assert noise == privacy.noise_multiplier(8, 0.01, 2 / 6, 3)
    assert record["epsilon"] == privacy.epsilon_spent(noise, 0.01, 2 / 6, 3)
    assert record["noise_norm"] == pytest.approx(noise / 2 * record["trained_weights"] ** 0.5)
    assert not (folder / "losses.csv").exists()  # losses of training pairs carry no noise
    assert {path.name for path in (folder / "snapshots").iterdir()} == {"000002"}
    generate(params, "private")
    images = paths.synthetic("toy", "private")
    row = next(iter(ImageSet.open(images)))
    assert (row["epsilon"], row["privacy_unit"]) == (record["epsilon"], "training pair")
    assert row["privacy_accountant"].startswith("opacus ") and row["privacy_accountant"].endswith(", rdp")
    card = (images / "README.md").read_text(encoding="utf-8")
    assert "with differential privacy: epsilon 8 at delta 0.01 per training pair (opacus" in card.replace("\n", " ")


def test_the_same_study_trains_other_weights_each_time_and_a_finished_one_is_kept() -> None:
    pytest.importorskip("opacus", reason="opacus (extra `privacy`) is not installed")

    def weights() -> dict[str, torch.Tensor]:
        finetune(study(), "private")
        return load_file(paths.generator("toy", "private") / "controlnet.safetensors")

    first = {name: value.clone() for name, value in weights().items()}
    assert all(torch.equal(value, first[name]) for name, value in weights().items())
    shutil.rmtree(paths.WORK)
    again = weights()
    assert again.keys() == first.keys()
    assert not all(torch.equal(value, first[name]) for name, value in again.items())


def test_too_large_a_delta_leaves_nothing_behind() -> None:
    with pytest.raises(UserError, match=r"privacy.delta is 0.5, which allows giving one of the 6 training pairs away"):
        finetune(study(delta=0.5), "private")
    assert not paths.generator("toy", "private").exists()


def test_a_generator_without_privacy_states_none(tmp_path: Path) -> None:
    files.write_json(tmp_path / "manifest.json", {"fingerprint": "x"})
    assert privacy_record.read(tmp_path) is None and privacy_record.columns(None) == {}
    assert privacy_record.statement(tmp_path) == ""
