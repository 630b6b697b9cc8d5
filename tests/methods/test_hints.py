"""Facts of the hints, worked out by hand, and of the edge networks' weights."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.methods.conditioning import _lines, canny, mask_boundary, soft_edge_hed, soft_edge_pidinet
from pipeline.networks import pretrained
from tests.edge_weights import write_edge_weights


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return write_edge_weights(tmp_path_factory.mktemp("weights"))


def square(size: int, top: int, left: int, side: int, label: int = 1) -> torch.Tensor:
    mask = torch.zeros(1, size, size, dtype=torch.long)
    mask[:, top : top + side, left : left + side] = label
    return mask


def test_boundary_of_a_square_of_five_is_its_rim() -> None:
    """25 - 9 pixels at width 1, 25 - 1 at width 2."""
    mask = square(9, 2, 2, 5)
    rim = mask_boundary.boundary(mask, 1)
    assert int(rim.sum()) == 16 and rim[0, 3:6, 3:6].sum() == 0
    assert int(mask_boundary.boundary(mask, 2).sum()) == 24


def test_frame_is_no_boundary_but_another_class_is() -> None:
    half = torch.zeros(1, 4, 4, dtype=torch.long)
    half[:, :, :2], half[:, :, 2:] = 1, 2
    assert mask_boundary.boundary(half, 1)[0].tolist() == [[0, 1, 1, 0]] * 4
    assert int(mask_boundary.boundary(torch.ones(1, 4, 4), 1).sum()) == 0


def test_boundary_is_red_on_white_on_black() -> None:
    hint = mask_boundary.build(mask_boundary.Params(width=1), 2)(square(9, 2, 2, 5))
    assert hint[0, :, 2, 2].tolist() == [1, 0, 0]
    assert hint[0, :, 4, 4].tolist() == [1, 1, 1]
    assert hint[0, :, 0, 0].tolist() == [0, 0, 0]
    three = mask_boundary.build(mask_boundary.Params(width=1), 3)(square(9, 2, 2, 5))
    assert three[0, :, 2, 2].tolist() == [1, 1, 1]  # white: no class of several has it


def test_a_faint_line_lies_between_the_class_and_the_line() -> None:
    mask, faint = square(2, 0, 0, 1), torch.full((1, 2, 2), 0.25)
    painted = _lines.paint(mask, faint, 2, _lines.Lines())
    assert painted[0, :, 0, 0].tolist() == [1, 0.75, 0.75]
    assert painted[0, :, 1, 1].tolist() == [0.25, 0, 0]


def test_canny_finds_the_step_and_nothing_else() -> None:
    """A step of 200 grey levels between columns 15 and 16; Sobel's answer there is 4 x 200, far above 200."""
    image = torch.zeros(1, 3, 32, 32)
    image[..., 16:] = 200 / 255
    hint = canny.build(canny.Params(over_mask=False), 2)(torch.zeros(1, 32, 32).long(), image)
    columns = hint[0, 0].sum(0).nonzero().flatten().tolist()
    assert len(columns) == 1 and columns[0] in (15, 16)
    assert hint[0, 0, 1:-1, columns[0]].min() == 1
    faint = canny.build(canny.Params(over_mask=False), 2)(torch.zeros(1, 32, 32).long(), image * 0.1)
    assert not faint.any()  # 4 x 20 stays below low = 100
    with pytest.raises(ValueError, match="low 300 exceeds high 200"):
        canny.Params(low=300)


@pytest.mark.parametrize("name", ["hed", "pidinet"])
def test_edges_equal_those_of_controlnet_aux(name: str, named: dict[str, dict[str, Any]]) -> None:
    """controlnet-aux gives whole grey levels, cut off below; the weights are random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from controlnet_aux.hed import HEDdetector
        from controlnet_aux.pidi import PidiNetDetector
    plugin, detector = {
        "hed": (soft_edge_hed, HEDdetector), "pidinet": (soft_edge_pidinet, PidiNetDetector)
    }[name]  # fmt: skip
    params = plugin.Params(**named[f"soft_edge_{name}"], over_mask=False)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    folder = str(Path(str(params.file)).parent)
    theirs = detector.from_pretrained(folder)(pixels, detect_resolution=64, image_resolution=64, output_type="np")
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    ours = plugin.build(params, 2)(torch.zeros(1, 64, 64).long(), image)[0].permute(1, 2, 0) * 255
    assert theirs.std() > 1
    assert np.abs(ours.floor().numpy() - theirs).max() <= 1


@pytest.mark.parametrize("plugin", [soft_edge_hed, soft_edge_pidinet])
def test_missing_weights_are_named_with_their_place(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    where = rf"weights/Annotators/{plugin.WEIGHTS.file}, or name it .*generators\.<entry>\.conditioning_params\.file"
    with pytest.raises(pretrained.Unavailable, match=where):
        plugin.build(plugin.Params(), 2)
    with pytest.raises(UserError, match="there is no file elsewhere"):
        plugin.build(plugin.Params(file="elsewhere.pth"), 2)


def test_other_files_are_refused(named: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    hed, pidinet = named["soft_edge_hed"], named["soft_edge_pidinet"]
    with pytest.raises(UserError, match="but 5ca93762"):  # not the publisher's, and no other was named
        soft_edge_hed.build(soft_edge_hed.Params(file=hed["file"]), 2)
    with pytest.raises(UserError, match="does not hold the weights of soft_edge_hed"):
        soft_edge_hed.build(soft_edge_hed.Params(**pidinet), 2)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(Path(pidinet["file"]).read_bytes()[:1000])
    with pytest.raises(UserError, match="does not hold the weights of soft_edge_pidinet"):
        soft_edge_pidinet.build(soft_edge_pidinet.Params(file=str(broken), sha256=files.sha256(broken)), 2)
