"""Every conditioning: a picture in [0, 1] of each pair alone, the same every time; edges need the image."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.core import plugins
from pipeline.core.contracts import Hint
from pipeline.core.errors import UserError
from tests.edge_weights import write_edge_weights
from tests.levels import ROUNDING, apart

OF_IMAGES = {"canny", "soft_edge_hed", "soft_edge_pidinet"}
NAMES = plugins.names("conditioning")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """Parameters that name weight files, by conditioning."""
    yield write_edge_weights(tmp_path_factory.mktemp("weights"))


def build(name: str, files: dict[str, dict[str, Any]], num_classes: int = 2, **more: Any) -> Hint:
    params = plugins.read_params("conditioning", name, {**files.get(name, {}), **more}, "x")
    return plugins.load("conditioning", name).build(params, num_classes)


def pairs(num_classes: int = 2) -> tuple[Tensor, Tensor]:
    """Three label maps and images of 32 pixels."""
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(3, 3, 4, 4, generator=rng).repeat_interleave(8, 2).repeat_interleave(8, 3)
    mask = torch.randint(num_classes, (3, 2, 2), generator=rng).repeat_interleave(16, 1).repeat_interleave(16, 2)
    return mask, image


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_classes", [2, 4])
def test_hints_are_pictures_of_each_pair_alone(name: str, num_classes: int, files: dict[str, dict[str, Any]]) -> None:
    hint, (mask, image) = build(name, files, num_classes), pairs(num_classes)
    together = hint(mask, image)
    assert together.shape == (3, 3, 32, 32)
    assert together.dtype == torch.float32
    assert float(together.min()) >= 0 and float(together.max()) <= 1
    assert together.flatten(1).std(1).min() > 0.01
    assert apart(hint(mask[1:2], image[1:2])[0], together[1]) < ROUNDING
    assert torch.equal(hint(mask, image), together)


@pytest.mark.parametrize("name", NAMES)
def test_edges_need_the_image_and_masks_do_not(name: str, files: dict[str, dict[str, Any]]) -> None:
    hint, (mask, image) = build(name, files), pairs()
    if name in OF_IMAGES:
        with pytest.raises(UserError, match=f"conditioning {name} .* masks: real"):
            hint(mask, None)
        assert not torch.equal(hint(mask, image), hint(mask, image.flip(-1)))
    else:
        assert torch.equal(hint(mask, None), hint(mask, image))


@pytest.mark.parametrize("name", sorted(OF_IMAGES))
def test_lines_may_stand_alone_or_inside_lesions(name: str, files: dict[str, dict[str, Any]]) -> None:
    mask, image = pairs()
    alone = build(name, files, over_mask=False)(mask, image)
    assert torch.equal(alone[:, 0], alone[:, 1]) and torch.equal(alone[:, 0], alone[:, 2])
    inside = build(name, files, over_mask=False, inside=True)(mask, image)
    assert torch.equal(inside, alone * (mask > 0)[:, None])


@pytest.mark.parametrize("name", NAMES)
def test_unknown_keys_are_refused(name: str, files: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(UserError, match=r"x\.colour"):
        build(name, files, colour="red")
