"""Checkpoints of DermoSegDiff's authors: what comes in computes what it did there, and predicts."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.cli.main import main
from pipeline.core import files
from pipeline.deploy.dermosegdiff_import import Sampling, import_checkpoint
from pipeline.networks.unets import dual_path_keys
from pipeline.networks.unets.dual_path_unet import DualPathShape, DualPathUNet
from pipeline.segmentation.saved_model import load_model
from tests.reference import dermosegdiff_literal as literal

SMALL = (16, 8, (1, 2, 3), (1, 2, 4))  # widths and multiples of both paths
Weights = dict[str, Tensor]


def weights(seed: int = 0) -> Weights:
    """Random weights of a small network by the authors' names."""
    rng = torch.Generator().manual_seed(seed)
    return {key: 0.2 * torch.randn(shape, generator=rng) for key, shape in literal.expected_shapes(*SMALL).items()}


def checkpoint(state: Weights, average: Weights | None) -> dict[str, Any]:
    """What the authors' training saves: the model, its optimiser, ema-pytorch's table and a number of numpy."""
    moments = {n: {"step": torch.tensor(3.0), "exp_avg": torch.zeros_like(w)} for n, w in enumerate(state.values())}
    ema = None
    if average is not None:
        tables = {"online_model": state, "ema_model": average}
        named = {f"{table}.{key}": value for table, own in tables.items() for key, value in own.items()}
        ema = {"initted": torch.tensor([1.0]), "step": torch.tensor([3]), **named}
    about = {"epoch": 3, "epochs": 500, "vl_loss": np.mean([np.float64(0.1), 0.2])}
    return {"model": state, "optimizer": {"state": moments, "param_groups": [{"lr": 1e-4}]}, "ema": ema, **about}


def imported(content: Any, folder: Path, **sampling: Any) -> Any:
    """The segmenter that a file of this content becomes, as predict opens it."""
    torch.save(content, folder / "isic_best.pth")
    import_checkpoint(folder / "isic_best.pth", folder / "kept", Sampling(**{"size": 32, **sampling}))
    return load_model(folder / "kept")[0]


def renamed_back(folder: Path) -> Weights:
    """The weights of a kept segmenter by the authors' names."""
    held = {key.removeprefix("network."): value for key, value in load_file(folder / "weights.safetensors").items()}
    names = dual_path_keys.table(held, len(SMALL[2]))
    return {names[key]: value for key, value in held.items()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_averaged_network_computes_what_it_did(tmp_path: Path) -> None:
    average = weights(1)
    network = imported(checkpoint(weights(0), average), tmp_path).network.network.double()
    for embedding in (network.time_x, network.time_g):
        embedding.layers.register_forward_pre_hook(lambda _, given: (given[0].double(),))
    rng = torch.Generator().manual_seed(2)
    x, g = (torch.randn(2, channels, 32, 24, generator=rng, dtype=torch.float64) for channels in (1, 3))
    times = torch.tensor([3, 200])
    with torch.no_grad():
        found = network(x, g, times)
    expected = literal.denoise({key: value.double() for key, value in average.items()}, x, g, times)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


def test_in_and_renamed_back_is_the_identity(tmp_path: Path) -> None:
    imported(checkpoint(weights(0), weights(1)), tmp_path)
    assert same(renamed_back(tmp_path / "kept"), weights(1))


@pytest.mark.parametrize("held", [lambda state: checkpoint(state, None), lambda state: state])
def test_without_an_average_the_last_weights_are_taken(held: Callable[[Weights], Any], tmp_path: Path) -> None:
    imported(held(weights(0)), tmp_path)
    assert same(renamed_back(tmp_path / "kept"), weights(0))


def test_a_safetensors_file_in_half_precision_is_read_too(tmp_path: Path) -> None:
    save_file({f"ema_model.{key}": value.half() for key, value in weights(0).items()}, tmp_path / "ph2.safetensors")
    import_checkpoint(tmp_path / "ph2.safetensors", tmp_path / "kept", Sampling(size=32))
    assert same(renamed_back(tmp_path / "kept"), {key: value.half().float() for key, value in weights(0).items()})


def test_it_predicts_as_the_paper_does_unless_asked_otherwise(tmp_path: Path) -> None:
    params = imported(checkpoint(weights(), weights()), tmp_path).params
    assert (params.prediction, params.train_steps, params.train_first) == ("eps", 250, False)
    assert (params.sampler, params.steps, params.samples, params.clip) == ("ddpm", 250, 9, False)
    assert (params.width_x, params.width_g, params.mult_x, params.mult_g) == SMALL
    assert (params.heads, params.dim_head, params.groups, params.stem_stride) == (4, 32, 8, 1)
    quick = imported(checkpoint(weights(), weights()), tmp_path, sampler="ddim", steps=3, samples=1).params
    assert (quick.sampler, quick.steps, quick.samples, quick.clip) == ("ddim", 3, 1, True)


def test_the_verb_writes_what_predict_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, kept, images = tmp_path / "isic_best.pth", tmp_path / "kept", tmp_path / "images"
    torch.save(checkpoint(weights(0), weights(1)), file)
    images.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 61, 3), np.uint8)).save(images / "lesion.png")
    few = ["--size", "32", "--samples", "2", "--steps", "3"]
    assert main(["import", "dermosegdiff", str(file), "--to", str(kept), *few]) == 0
    assert capsys.readouterr().out == f"{kept}\n"
    record = files.read_json(kept / "kept.json")
    assert record["weights"] == {"source": "file", "file": "isic_best.pth", "sha256": files.sha256(file)}
    assert str(tmp_path) not in (kept / "kept.json").read_text()
    to = tmp_path / "to"
    assert main(["predict", "--segmenter", str(kept), "--images", str(images), "--to", str(to)]) == 0
    assert Image.open(to / "masks" / "lesion.png").size == (61, 45)


class Danger:
    """An object whose unpickling makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made_by_a_pickle",)


def without(key: str) -> Weights:
    state = weights()
    del state[key]
    return state


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (checkpoint(without("final_conv.bias"), None), "lacks 1 of the 347 weights of its network, final_conv.bias"),
        (weights() | {"head.weight": torch.zeros(1)}, "holds 1 weights that no DermoSegDiff has, head.weight for one"),
        (
            weights() | {"final_conv.weight": torch.zeros(1, 8, 1, 1)},
            "final_conv.weight is [1, 8, 1, 1], must be [1, 16",
        ),
        (without("init_conv_g.weight"), "holds no DermoSegDiff: it lacks init_conv_g.weight, the weights of a conv"),
        ({"init_conv.weight": torch.zeros(16, 4, 7, 7)}, "holds no DermoSegDiff: it lacks init_conv_x.weight"),
        (weights() | {"init_conv_x.weight": torch.zeros(16, 2, 1, 1)}, "draws 2 maps (init_conv_x.weight)"),
        (weights() | {"init_conv_g.weight": torch.zeros(7, 3, 1, 1)}, "a layer of 8 channels where a multiple of 7"),
        (weights() | {"init_conv_g.weight": torch.zeros(2, 3, 1, 1)}, "a path of 2 channels; they must be even and at"),
        ({"epoch": 3}, "holds no table of weights"),
        (torch.zeros(3), "holds no table of weights"),
        ({"model": weights(), "more": Danger()}, "it is not read, because making it could run code"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    content: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "wrong.pth")
    assert main(["import", "dermosegdiff", "wrong.pth", "--to", "kept"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: wrong.pth") and line.count("\n") == 1
    assert told in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wrong.pth"]


def test_files_that_cannot_be_read_and_folders_that_are_taken_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint(weights(), None), "whole.pth")
    Path("half.pth").write_bytes(Path("whole.pth").read_bytes()[:50_000])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    for file, folder, told in (
        ("none.pth", "kept", "none.pth: there is no such file"),
        ("half.pth", "kept", "half.pth (50,000 bytes) is truncated or not a file of weights"),
        ("whole.pth", "taken", "taken is not empty; name a new folder"),
        ("whole.pth", "half.pth", "half.pth is a file; name a new folder"),
    ):
        assert main(["import", "dermosegdiff", file, "--to", folder]) == 2
        assert told in capsys.readouterr().err
    assert not Path("kept").exists()


@pytest.mark.parametrize(("mult_x", "count"), [((1, 2, 3, 4, 5, 6), 321_181_377), ((2, 2, 2, 2, 2, 2), 157_749_441)])
def test_names_and_sizes_at_the_papers_widths(mult_x: tuple[int, ...], count: int) -> None:
    expected = literal.expected_shapes(128, 64, mult_x, (1, 2, 4, 8, 16, 32))
    assert sum(int(np.prod(shape)) for shape in expected.values()) == count
    shape = dual_path_keys.shape_of(expected)
    assert shape == DualPathShape(mult_x=mult_x)
    with torch.device("meta"):
        state = DualPathUNet(shape).state_dict()
    names = dual_path_keys.table(state, 6)
    assert {names[key]: tuple(value.shape) for key, value in state.items()} == expected
