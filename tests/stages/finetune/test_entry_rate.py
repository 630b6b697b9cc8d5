"""An entry's own learning rate: it trains with it, its weights are its own, and nothing else changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.cli.plan import weight_sources
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.finetune.fingerprint import trajectory
from pipeline.study import Params
from tests.conftest import TOY_STUDY, blobs
from tests.tiny_base import write_tiny_base

ENTRY: dict[str, Any] = {"method": "siamese", "copies": 1}


def study(common: float = 1e-3, /, **generators: Any) -> Params:
    settings = {"finetune": {"max_steps": 1, "global_batch": 2, "learning_rate": common}}
    return parse(Params, TOY_STUDY | settings | {"generators": generators, "training_sets": {"real": {}}})


@pytest.fixture(autouse=True)
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds a real set of 16 pixels and an untrained base."""
    monkeypatch.chdir(tmp_path)
    spec = DatasetSpec(name="blobs", size=16)
    ImageSet.create(paths.real("toy"), spec, blobs(spec, {"train": 4}))
    write_tiny_base(paths.base("toy"), "sample")


def trained(params: Params, name: str) -> dict[str, torch.Tensor]:
    finetune(params, name)
    return load_file(paths.generator("toy", name) / "decoder.safetensors")


def test_an_entry_trains_with_its_own_rate_as_if_the_study_had_it() -> None:
    params = study(1e-3, slow=ENTRY | {"learning_rate": 1e-5}, usual=ENTRY)
    own, everyone = trained(params, "slow"), trained(study(1e-5, alone=ENTRY), "alone")
    assert all(torch.equal(value, everyone[name]) for name, value in own.items())
    faster = trained(params, "usual")
    assert not all(torch.equal(value, faster[name]) for name, value in own.items())


def test_entries_with_other_rates_share_no_weights() -> None:
    params = study(slow=ENTRY | {"learning_rate": 1e-5}, usual=ENTRY, again=ENTRY)
    assert weight_sources(params.generators) == {"slow": "slow", "usual": "usual", "again": "usual"}
    train = ImageSet.open(paths.real("toy")).split("train")
    assert trajectory(params, "slow", train) != trajectory(params, "usual", train)


def test_an_entry_without_a_rate_keeps_its_record() -> None:
    assert "learning_rate" not in study(usual=ENTRY).generators["usual"].model_dump()


def test_a_rate_for_what_is_not_fine_tuned_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"generators.copy_paste.learning_rate: copy_paste is not fine-tuned; remove it"
    ):
        study(copy_paste={"copies": 1, "learning_rate": 1e-4})
