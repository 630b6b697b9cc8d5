"""The base: brought from a folder as it is, refused with one message where it cannot be had."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.networks.stable_diffusion import ldm_base
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import base, base_import, tiny
from pipeline.stages.base.params import Base
from pipeline.study import Params
from tests.tiny_base import RATES, write_tiny_base

UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("sd"), "epsilon")


def test_local_folder_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    base_import.import_base(Base(source=str(folder)), tmp_path / "base")
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
        base_import.import_base(Base(source=str(tmp_path / "half")), tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_changed_weights_of_a_local_base_are_another_base(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert base.content_hash(tmp_path / "copy") == base.content_hash(folder)
    (tmp_path / "copy" / "model_index.json").write_text("{}")
    assert base.content_hash(tmp_path / "copy") != base.content_hash(folder)
    assert base.content_hash(Path("nobody/nothing")) is None


def test_manifest_tells_files_by_hash_and_no_path(folder: Path, tmp_path: Path) -> None:
    about = base_import.import_base(Base(source=str(folder)), tmp_path / "base")
    name = "unet/diffusion_pytorch_model.safetensors"
    assert about["kind"] == "folder" and about["unet_from"] == name and about["weights"] == "as_published"
    assert about["files"][name] == files.sha256(folder / name) and len(about["files"]) == 10
    assert str(folder) not in str(about) and base.origin(Base(source=str(folder))) == folder.name


def test_stage_publishes_the_base_with_its_manifest(folder: Path, toy_study: Params) -> None:
    params = toy_study.model_copy(update={"base": Base(source=str(folder))})
    base.make_base(params)
    published = paths.base("toy")
    manifest = files.read_json(published / "manifest.json")
    assert manifest["source"] == folder.name and manifest["kind"] == "folder"
    assert all(files.sha256(published / name) == told for name, told in manifest["files"].items())
    before = files.tree_sha256(published)
    base.make_base(params)  # nothing is made twice
    assert files.tree_sha256(published) == before and StableDiffusion.open(published).factor == 2


def test_non_ema_weights_stand_under_the_plain_name(folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(folder, tmp_path / "both")
    weights = load_file(source / UNET)
    save_file({key: value + 1 for key, value in weights.items()}, source / UNET.replace(".safe", ".non_ema.safe"))
    about = base_import.import_base(Base(source=str(source), weights="non_ema"), tmp_path / "base")
    assert about["unet_from"] == "unet/diffusion_pytorch_model.non_ema.safetensors"
    assert torch.equal(load_file(tmp_path / "base" / UNET)["conv_in.weight"], weights["conv_in.weight"] + 1)
    assert [path.name for path in (tmp_path / "base" / "unet").glob("*.safetensors")] == [Path(UNET).name]
    with pytest.raises(UserError, match=r"lacks unet/diffusion_pytorch_model.non_ema.safetensors \(3.4 GB\)"):
        base_import.import_base(Base(source=str(folder), weights="non_ema"), tmp_path / "other")


def test_torch_files_of_half_precision_become_safetensors_of_single(folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(folder, tmp_path / "half")
    half = {key: value.half() for key, value in load_file(source / UNET).items()}
    torch.save(half, source / "unet" / "diffusion_pytorch_model.bin")
    (source / UNET).unlink()
    about = base_import.import_base(Base(source=str(source)), tmp_path / "base")
    assert about["unet_from"] == "unet/diffusion_pytorch_model.bin"
    brought = load_file(tmp_path / "base" / UNET)
    assert brought.keys() == half.keys() and all(torch.equal(brought[key], half[key].float()) for key in half)


def test_files_of_2022_are_taken(folder: Path, tmp_path: Path) -> None:
    """Safety checker in the index, paths in the configs, half precision told: what Stable Diffusion 1.5 may bring."""
    source = shutil.copytree(folder, tmp_path / "old")
    index = files.read_json(source / "model_index.json")
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    files.write_json(source / "model_index.json", {**index, **checker})
    text = files.read_json(source / "text_encoder" / "config.json")
    told = {"_name_or_path": "/some/where/sd", "dtype": "float16"}
    files.write_json(source / "text_encoder" / "config.json", {**text, **told})
    tower = {f"text_model.{key}": value for key, value in load_file(source / TEXT).items()}
    save_file({**tower, "text_model.embeddings.position_ids": torch.arange(32)[None]}, source / TEXT)
    base_import.import_base(Base(source=str(source)), tmp_path / "base")
    assert files.read_json(tmp_path / "base" / "model_index.json") == index
    assert files.read_json(tmp_path / "base" / "text_encoder" / "config.json") == text
    prompts = ["A photo of a polyp."]
    brought, before = StableDiffusion.open(tmp_path / "base"), StableDiffusion.open(folder)
    assert torch.equal(brought.embed(prompts), before.embed(prompts))
    configs = ldm_base.read_configs(folder)
    assert ldm_base.read_folder(tmp_path / "base", configs).keys() == ldm_base.read_folder(folder, configs).keys()


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("unet", {"cross_attention_dim": 24}, "the U-Net attends to width 24, but the text encoder has 16"),
        ("unet", {"in_channels": 9}, "is an inpainting model: the U-Net takes 9 channels, the autoencoder gives 4"),
        ("unet", {"use_linear_projection": True}, "the weights of unet do not fit its configuration|unet lacks"),
        (
            "unet",
            {"cross_attention_dim": 2048, "addition_embed_type": "text_time"},
            "a U-Net of Stable Diffusion XL, but 1",
        ),
        ("unet", {"block_out_channels": [64, 64]}, "the weights of unet do not fit its configuration"),
        ("text_encoder", {"intermediate_size": 128}, "the weights of text_encoder do not fit its configuration"),
    ],
)
def test_folder_of_another_shape_is_told(folder: Path, tmp_path: Path, part: str, change: dict, told: str) -> None:
    source = shutil.copytree(folder, tmp_path / "other")
    config = source / part / "config.json"
    files.write_json(config, {**files.read_json(config), **change})
    with pytest.raises(UserError, match=told) as caught:
        base_import.import_base(Base(source=str(source)), tmp_path / "base")
    assert "\n" not in str(caught.value)


def test_folder_of_another_kind_is_told(folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(folder, tmp_path / "other")
    index = files.read_json(source / "model_index.json")
    files.write_json(source / "model_index.json", {**index, "_class_name": "StableDiffusionInpaintPipeline"})
    with pytest.raises(
        UserError, match="is made for StableDiffusionInpaintPipeline, not for StableDiffusionPipeline or"
    ):
        base_import.import_base(Base(source=str(source)), tmp_path / "base")
    (source / "pytorch_lora_weights.safetensors").touch()
    with pytest.raises(UserError, match="holds a LoRA"):
        base_import.import_base(Base(source=str(source)), tmp_path / "base")


def test_weights_that_are_cut_off_or_missing_are_told(folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(folder, tmp_path / "cut")
    (source / UNET).write_bytes((folder / UNET).read_bytes()[:1000])
    with pytest.raises(UserError, match=r"diffusion_pytorch_model.safetensors \(1,000 bytes\) is truncated"):
        base_import.import_base(Base(source=str(source)), tmp_path / "base")
    save_file({key: v for key, v in load_file(folder / UNET).items() if key != "conv_out.bias"}, source / UNET)
    with pytest.raises(UserError, match=r"unet lacks 1 of its weights \(conv_out.bias"):
        base_import.import_base(Base(source=str(source)), tmp_path / "base")
    (source / "unet" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not a JSON object"):
        base_import.import_base(Base(source=str(source)), tmp_path / "base")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"source": "a/b", "weights": "ema", "variant": "fp16"}, "weights ema and variant fp16 both choose files"),
        ({"source": "a/b", "weights": "best"}, "base.weights"),
        ({"source": "scratch", "weights": "ema", "autoencoder": RATES | {"crop": 8}, "denoiser": RATES}, "one set"),
    ],
)
def test_weights_are_chosen_once(given: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(Base, given, "base")


def test_prompts_longer_than_the_tower_are_cut_and_empty_ones_have_an_embedding(folder: Path) -> None:
    model = StableDiffusion.open(folder)
    embedded = model.embed(["", "A photo of a polyp.", "long " * 40])
    assert embedded.shape == (3, tiny.TOKENS, 16)
    assert not torch.allclose(embedded[0], embedded[1])
