"""Generators in the authors' layout: in and out is the identity, and what is brought in works."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.cli.main import main
from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.deploy import ldm_generator
from pipeline.methods.generators import siamese
from pipeline.networks.stable_diffusion import ldm_keys, weight_file
from pipeline.networks.stable_diffusion.model import StableDiffusion
from tests import ldm_files
from tests.reference.dense_hint_literal import dense_hint
from tests.tiny_base import write_tiny_base

DHI = "control_model.input_hint_block."


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint released.pth and what it was imported to."""
    folder = tmp_path_factory.mktemp("ldm")
    ldm_files.write_ckpt(ldm_files.released("dense"), folder / "released.pth")
    ldm_generator.import_checkpoint(folder / "released.pth", folder / "base", folder / "generator", ldm_files.SMALL)
    return folder


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_in_and_out_is_the_identity(imported: Path, tmp_path: Path) -> None:
    for name in ("back.safetensors", "back.pth"):
        ldm_generator.export_checkpoint(imported / "base", imported / "generator", tmp_path / name)
        assert same(weight_file.read(tmp_path / name), ldm_files.released("dense"))


def test_stock_hint_input_goes_in_and_out_too(tmp_path: Path) -> None:
    state = ldm_files.released("sparse")
    save_file(state, tmp_path / "control.safetensors")
    ldm_generator.import_checkpoint(tmp_path / "control.safetensors", tmp_path / "b", tmp_path / "g", ldm_files.SMALL)
    ldm_generator.export_checkpoint(tmp_path / "b", tmp_path / "g", tmp_path / "back.safetensors")
    assert same(weight_file.read(tmp_path / "back.safetensors"), state)
    assert files.read_json(tmp_path / "g" / "manifest.json")["method"] == "controlnet"


def test_our_generator_reads_what_came_in_and_its_hint_input_computes_the_authors(imported: Path) -> None:
    model = StableDiffusion.open(imported / "base")
    generator = siamese.build(siamese.Params(), model, DatasetSpec(name="blobs", size=32))
    generator.load(imported / "generator")
    state = ldm_files.released("dense")
    trained = generator.decoder.up_blocks[3].resnets[1].conv1.weight
    assert torch.equal(trained, state[f"{ldm_keys.UNET}output_blocks.7.0.in_layers.2.weight"])
    authors = {key.removeprefix(DHI): value.double() for key, value in state.items() if key.startswith(DHI)}
    hint = torch.rand(2, 3, 32, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = generator.network.controlnet_cond_embedding.double()(hint)
    wanted = dense_hint(authors, hint)
    assert ours.shape == (2, 32, 4, 2)
    torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-8 * float(wanted.abs().max()))


def test_our_trained_generator_goes_out_and_in(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", "epsilon")
    generator = siamese.build(siamese.Params(start=0.5), StableDiffusion.open(base), DatasetSpec(name="b", size=16))
    with torch.no_grad():
        generator.decoder.conv_out.weight.add_(1)  # trained: no longer the base's
    generator.save(tmp_path / "generator")
    ldm_generator.export_checkpoint(base, tmp_path / "generator", tmp_path / "out.safetensors")
    state = weight_file.read(tmp_path / "out.safetensors")
    assert torch.equal(state[f"{ldm_keys.UNET}out.2.weight"], generator.decoder.conv_out.weight)
    control = load_file(tmp_path / "generator" / "controlnet.safetensors")
    taken = [key for key in state if key.startswith(ldm_keys.CONTROL)]
    assert len(taken) == len(control)
    assert torch.equal(state["control_model.zero_convs.0.0.weight"], control["controlnet_down_blocks.0.weight"])


def test_of_a_student_with_its_teacher_the_student_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ADC's files: what comes in is what comes of the same file without the teacher."""
    alone, inner = ldm_files.released("dense"), "model.diffusion_model."
    teacher = {f"image_{key}": value + 1 for key, value in alone.items() if key.startswith("control_model.")}
    for key, value in alone.items():
        if key.startswith((f"{inner}output_blocks.", f"{inner}out.")):
            teacher[f"{inner}image_{key.removeprefix(inner)}"] = value + 1
    ldm_files.write_ckpt(alone | teacher, tmp_path / "adc.pth")
    ldm_generator.import_checkpoint(tmp_path / "adc.pth", tmp_path / "base", tmp_path / "generator", ldm_files.SMALL)
    assert files.read_json(tmp_path / "generator" / "manifest.json")["method"] == "adc"
    assert "keys are not taken" not in caplog.text
    ldm_generator.export_checkpoint(tmp_path / "base", tmp_path / "generator", tmp_path / "back.safetensors")
    assert same(weight_file.read(tmp_path / "back.safetensors"), alone)


def test_manifests_name_the_file_and_no_path(imported: Path) -> None:
    about = files.read_json(imported / "generator" / "manifest.json")
    assert about["method"] == "siamese" and about["source"] == "released.pth"
    assert about["file_sha256"] == files.sha256(imported / "released.pth")
    assert str(imported) not in (imported / "base" / "manifest.json").read_text()


def test_what_is_no_generator_is_told(tmp_path: Path) -> None:
    save_file(ldm_files.base(), tmp_path / "base.safetensors")
    with pytest.raises(UserError, match="holds no ControlNet"):
        bring_in(tmp_path / "base.safetensors")
    control = {key: value for key, value in ldm_files.released("dense").items() if key.startswith("control_model.")}
    save_file(control, tmp_path / "control.safetensors")
    with pytest.raises(UserError, match="holds a ControlNet without the model that it steers"):
        bring_in(tmp_path / "control.safetensors")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (f"{DHI}0.layer3.conv1.weight", None, "lacks 1 of the .* weights .*input_hint_block.0.layer3.conv1.weight"),
        (f"{DHI}1.weight", torch.zeros(8, 256, 3, 3), r"input_hint_block.1.weight is \[8, 256, 3, 3\], must be \[32"),
        ("alphas_cumprod", torch.linspace(1, 0.1, 1000), "another noise schedule"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_told(key: str, value: Tensor | None, told: str, tmp_path: Path) -> None:
    state = ldm_files.released("dense")
    del state[key]
    save_file(state if value is None else state | {key: value}, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=told):
        bring_in(tmp_path / "wrong.safetensors")
    assert not (tmp_path / "base").exists() and not (tmp_path / "generator").exists()


def bring_in(path: Path) -> None:
    ldm_generator.import_checkpoint(path, path.parent / "base", path.parent / "generator", ldm_files.SMALL)


def test_keys_that_go_nowhere_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file(ldm_files.released("dense") | {"optimizer.step": torch.ones(1)}, tmp_path / "more.safetensors")
    bring_in(tmp_path / "more.safetensors")
    assert "1 keys are not taken: optimizer.step" in caplog.text


def test_generator_of_another_base_is_not_written_out(imported: Path, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", "epsilon")
    with pytest.raises(UserError, match="does not fit this base"):
        ldm_generator.export_checkpoint(base, imported / "generator", tmp_path / "out.safetensors")
    with pytest.raises(UserError, match=r"controlnet.safetensors does not exist; name the folder that stage finetune"):
        ldm_generator.export_checkpoint(base, tmp_path / "nothing", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_the_command_writes_and_refuses(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--base", str(imported / "base"), "--generator", str(imported / "generator")]
    assert main(["export", "ldm", str(tmp_path / "out.safetensors"), *folders]) == 0
    assert same(weight_file.read(tmp_path / "out.safetensors"), ldm_files.released("dense"))
    nowhere = ["--base", str(tmp_path / "b"), "--generator", str(tmp_path / "g")]
    for arguments, told in (
        (["import", "ldm", str(tmp_path / "out.safetensors"), *folders], "is not empty"),
        (["export", "ldm", str(tmp_path / "out.zip"), *folders], "suffix must be one of"),
        (["import", "ldm", str(tmp_path / "none.pth"), *nowhere], "there is no such file"),
    ):
        assert main(arguments) == 2 and told in capsys.readouterr().err
