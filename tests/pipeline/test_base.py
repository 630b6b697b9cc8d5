"""The base: brought from a folder as it is, refused with one message where it cannot be had."""

import shutil
from pathlib import Path

import pytest
import torch

from pipeline import files, pretraining
from pipeline.base_params import Base
from pipeline.errors import UserError
from pipeline.networks import tiny_stable_diffusion as tiny
from pipeline.networks.stable_diffusion import StableDiffusion
from tests.tiny_base import write_tiny_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("sd"), "epsilon")


def test_local_folder_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    pretraining.bring(Base(source=str(folder)), tmp_path / "base")
    assert files.tree_sha256(tmp_path / "base") == files.tree_sha256(folder)
    assert StableDiffusion.open(tmp_path / "base").factor == 2


def test_diffusers_itself_loads_the_folder_and_draws(folder: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("A photo of a polyp.", num_inference_steps=2, height=16, width=16, output_type="np").images
    assert image.shape == (1, 16, 16, 3)


def test_folder_that_lacks_parts_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "vae")
    with pytest.raises(UserError, match="lacks vae"):
        pretraining.bring(Base(source=str(tmp_path / "half")), tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_changed_weights_of_a_local_base_are_another_base(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert pretraining.content(tmp_path / "copy") == pretraining.content(folder)
    (tmp_path / "copy" / "model_index.json").write_text("{}")
    assert pretraining.content(tmp_path / "copy") != pretraining.content(folder)
    assert pretraining.content(Path("nobody/nothing")) is None


def test_prompts_longer_than_the_tower_are_cut_and_empty_ones_have_an_embedding(folder: Path) -> None:
    model = StableDiffusion.open(folder)
    embedded = model.embed(["", "A photo of a polyp.", "long " * 40])
    assert embedded.shape == (3, tiny.TOKENS, 16)
    assert not torch.allclose(embedded[0], embedded[1])
