"""Bases from single files: EMA or not, old formats, precision; what is not SD 1.5-shaped is told in one message."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.networks.stable_diffusion import ldm_base, ldm_keys, weight_file
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.sd15 import PartConfigs
from pipeline.stages.base import base_import, base_source
from pipeline.stages.base.params import Base
from tests import ldm_files

U = ldm_keys.UNET
CONV_IN = f"{U}input_blocks.0.0.weight"
TO_K = f"{U}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def conv_in(folder: Path) -> Tensor:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]


def test_single_file_becomes_a_folder_that_opens_and_holds_its_weights(tmp_path: Path) -> None:
    path = ldm_files.write_ckpt(state := ldm_files.base(), tmp_path / "sd.ckpt")
    about = base_import.import_base(Base(source=str(path)), tmp_path / "base", ldm_files.SMALL)
    model = StableDiffusion.open(tmp_path / "base")
    assert model.factor == 8 and model.embed(["A photo of a polyp."]).shape == (1, 77, 16)
    assert model.moments(torch.rand(1, 3, 16, 16)).shape == (1, 8, 2, 2)
    back = ldm_base.read_folder(tmp_path / "base", ldm_base.read_configs(tmp_path / "base"))
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)
    assert about["kind"] == "file" and about["file_sha256"] == files.sha256(path)
    name = "vae/diffusion_pytorch_model.safetensors"
    assert about["files"][name] == files.sha256(tmp_path / "base" / name)
    assert len(about["files"]) == 3 * 2 + 1 + 2 + 1  # three networks, scheduler, tokenizer, index


@pytest.mark.parametrize(
    ("weights", "shift", "prefix"), [("as_published", 0, U), ("non_ema", 0, U), ("ema", 1, "model_ema.")]
)
def test_file_with_both_gives_the_weights_asked_for(weights: str, shift: int, prefix: str, tmp_path: Path) -> None:
    path = ldm_files.write_ckpt(state := ldm_files.both(), tmp_path / "v1-5-pruned.ckpt")
    base = Base(source=str(path), weights=weights)  # type: ignore[arg-type]
    about = base_import.import_base(base, tmp_path / "base", ldm_files.SMALL)
    assert torch.equal(conv_in(tmp_path / "base"), state[CONV_IN] + shift)
    assert about["unet_from"] == f"{prefix}*" and about["weights"] == weights


@pytest.mark.parametrize("weights", ["ema", "non_ema"])
def test_file_with_one_set_cannot_tell_which_it_is(weights: str, tmp_path: Path) -> None:
    path = ldm_files.write_ckpt(ldm_files.base(), tmp_path / "emaonly.ckpt")
    with pytest.raises(UserError, match=f"base.weights is {weights}, but .*emaonly.ckpt holds one set"):
        base_import.import_base(Base(source=str(path), weights=weights), tmp_path / "base", ldm_files.SMALL)  # type: ignore[arg-type]
    assert not (tmp_path / "base").exists()


def test_what_lightning_leaves_beside_the_weights_does_no_harm(tmp_path: Path) -> None:
    """As in the published v1-5-pruned.ckpt: a class as key, a numpy number."""
    with ldm_files.lightning() as kind:
        beside = {"callbacks": {kind: {"best": np.float32(0.5), "count": np.float64(2)}}}
        torch.save({"state_dict": ldm_files.base(), **beside}, tmp_path / "sd.ckpt")
    base_import.import_base(Base(source=str(tmp_path / "sd.ckpt")), tmp_path / "base", ldm_files.SMALL)
    assert torch.equal(conv_in(tmp_path / "base"), ldm_files.base()[CONV_IN])


def test_format_before_torch_1_6_is_read(tmp_path: Path) -> None:
    torch.save(ldm_files.base(), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert weight_file.shapes(tmp_path / "old.ckpt")[CONV_IN] == (32, 4, 3, 3)


class Harm:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return sys.exit, ("code of the file was run",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Harm()}, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match=r"bad.ckpt holds an object of sys.exit beside weights; .*\.safetensors"):
        weight_file.shapes(tmp_path / "bad.ckpt")


def test_half_precision_becomes_single_and_bare_text_keys_are_known(tmp_path: Path) -> None:
    state = {key.replace("transformer.text_model.", "transformer."): v.half() for key, v in ldm_files.base().items()}
    save_file(state, tmp_path / "half.safetensors")
    base_import.import_base(Base(source=str(tmp_path / "half.safetensors")), tmp_path / "base", ldm_files.SMALL)
    assert torch.equal(conv_in(tmp_path / "base"), ldm_files.base()[CONV_IN].half().float())


def stranger(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    return path


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({CONV_IN: (320, 9, 3, 3)}, "is an inpainting model: its U-Net takes 9 channels, the autoencoder gives 4"),
        ({CONV_IN: (320, 4, 3, 3), TO_K: (320, 1024)}, "is Stable Diffusion 2: its cross-attention has width 1024"),
        ({CONV_IN: (320, 4, 3, 3), TO_K: (320, 512)}, "is another model: .* width 512, .* has 768"),
        ({CONV_IN: (320, 4, 3, 3), "cond_stage_model.model.ln_final.weight": (1024,)}, "is Stable Diffusion 2"),
        ({CONV_IN: (320, 4, 3, 3), "conditioner.embedders.0.x": (1,)}, "is Stable Diffusion XL, not"),
        ({"lora_unet_down_blocks_0.lora_down.weight": (4, 320)}, "holds a LoRA: small changes to a model"),
        ({"down_blocks.0.resnets.0.conv1.weight": (1,), "conv_in.weight": (1,)}, "is one part of a diffusers folder"),
        ({"control_model.zero_convs.0.0.weight": (1,)}, "holds a ControlNet without the model"),
        ({"layer1.weight": (1,)}, "is not in LDM layout: no key starts with .*, layer1.weight do"),
        ({CONV_IN: (320, 4, 3, 3)}, "holds no autoencoder"),
    ],
)  # fmt: skip
def test_file_of_another_kind_is_named(shapes: dict[str, tuple[int, ...]], told: str, tmp_path: Path) -> None:
    path = stranger(tmp_path / "what.safetensors", shapes)
    with pytest.raises(UserError, match=told) as caught:
        base_import.import_base(Base(source=str(path)), tmp_path / "base")
    assert "v1-5-pruned.safetensors" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("kept", [0, 5, 0.5, 0.999])
def test_file_that_was_cut_off_is_named(suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"cut{suffix}"
    state = ldm_files.base()
    _ = save_file(state, path) if suffix == ".safetensors" else ldm_files.write_ckpt(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(
        UserError, match=r"cut\.\w+ \([\d,]+ bytes\) is truncated or not a file of weights .* download it again"
    ):
        base_import.import_base(Base(source=str(path)), tmp_path / "base", ldm_files.SMALL)


def test_file_without_a_weight_names_it(tmp_path: Path) -> None:
    state = ldm_files.base()
    del state[f"{U}out.2.bias"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match=r"lacks 1 of the \d+ weights of .*: model.diffusion_model.out.2.bias"):
        base_import.import_base(Base(source=str(tmp_path / "less.safetensors")), tmp_path / "base", ldm_files.SMALL)


def test_sources_that_are_nothing_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    for source, told in (
        ("models/sd.ckpt", "there is no file models/sd.ckpt; download v1-5-pruned.safetensors"),
        ("notes.txt", "notes.txt is neither a file of weights"),
        ("a base", "'a base' is neither a folder here, nor a file"),
        ("a/b/c", "'a/b/c' is neither a folder here, nor a file"),
    ):
        with pytest.raises(UserError, match=told):
            base_import.import_base(Base(source=source), tmp_path / "base")


def test_telling_what_is_missing_needs_no_torch() -> None:
    report = "print('torch' in sys.modules, 'diffusers' in sys.modules)"
    code = f"import sys; from pipeline.stages.base import base_source; {report}"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("source", "kind"),
    [("scratch", "scratch"), (".", "folder"), ("x/y.safetensors", "file"), ("a/b", "hub"), (base_source.SD15, "hub")],
)
def test_kinds_of_sources(source: str, kind: str) -> None:
    assert base_source.kind_of(source) == kind


@pytest.mark.slow
def test_file_of_full_size_becomes_a_base_of_full_size(tmp_path: Path) -> None:
    """Every weight is one number, stored once, so that only the base takes 4.3 GB; needs 8 GB of memory."""
    configs = PartConfigs()
    models = ldm_base.empty_parts(configs)
    shapes = ldm_base.expected_shapes(models, ldm_base.base_tables(models, configs))
    numbers = {key: float(number) for number, key in enumerate(shapes)}
    state = {key: torch.tensor(numbers[key]).expand(shape) for key, shape in shapes.items()}
    path = ldm_files.write_ckpt(state, tmp_path / "sd.ckpt")
    base_import.import_base(Base(source=str(path)), tmp_path / "base")
    assert sum(file.stat().st_size for file in (tmp_path / "base").rglob("*.safetensors")) > 4 * 1_066_235_307
    back = ldm_base.read_folder(tmp_path / "base", configs)
    assert back.keys() == shapes.keys()
    assert all(value.shape == shapes[key] and bool((value == numbers[key]).all()) for key, value in back.items())
