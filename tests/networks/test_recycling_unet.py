"""The three networks of ImgX-DiffSeg against the originals: their outputs, their numbers of weights, their positions.

The expected outputs are those of the authors' Flax and Haiku modules (tags v0.3.2, v0.3.1, v0.1.0 of
mathpluscode/ImgX-DiffSeg, run with JAX on a CPU), with the weights and inputs that the formulas below give. Over the
whole output ours differed by at most 7e-6. Haiku and Flax turn the kernels of transposed convolutions around.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.networks.unets.first_recycling_unet import FirstRecyclingUNet
from pipeline.networks.unets.recycling_unet import RecyclingShape, RecyclingUNet

FLAT = {  # 9 x 12 cells, first stride 2 x 1: two sides are odd on the way down
    "0.3.2": [0.73129, 2.33622, -5.00312, 5.72304, 0.3176, 2.8911, -3.58288, 8.45682],
    "0.3.1": [0.73046, 2.32846, -5.00326, 5.72741, 0.31827, 2.88474, -3.5893, 8.45688],
}
SOLID = {  # 8 x 5 x 6 cells, first stride 2 x 2 x 1; of 0.1.0 9 x 12 x 8 cells
    "0.3.2": [0.61344, 0.99115, 0.2988, 0.91788, 5.05418, 3.42359, -3.33586, 4.64249],
    "0.3.1": [0.61398, 0.99348, 0.29849, 0.91735, 5.05363, 3.42518, -3.33686, 4.64103],
    "0.1.0": [0.15506, 2.63163, -0.00626, 1.06726, 0.52063, 0.14853, -0.20083, 0.86662],
}


def wave(name: str, shape: tuple[int, ...]) -> Tensor:
    size = math.prod(shape)
    values = np.sin(0.7 * np.arange(size) + len(name) + 0.1 * sum(name.encode())).reshape(shape)
    if name == "positions":
        return torch.from_numpy(0.5 * values)
    if len(shape) == 1:
        return torch.from_numpy(float(name.endswith("weight")) + 0.3 * values)
    return torch.from_numpy(values * np.sqrt(2 * shape[0] / size))


@torch.no_grad()
def output(network: nn.Module, spatial: tuple[int, ...], time: Tensor | None) -> list[float]:
    """Eight numbers, evenly spread over the output of two samples of four channels."""
    for name, weight in network.named_parameters():
        weight.copy_(wave(name, tuple(weight.shape)))
    if isinstance(network, FirstRecyclingUNet):
        for widen in network.widen:
            assert isinstance(widen, nn.ConvTranspose3d)
            widen.weight.copy_(widen.weight.flip(2, 3, 4))
    image = torch.from_numpy(np.sin(0.37 * np.arange(2 * 4 * math.prod(spatial))).reshape(2, 4, *spatial)).float()
    found = network.eval()(image, time).flatten()
    return found[:: len(found) // 8][:8].tolist()


@pytest.mark.parametrize("time", [True, False])
@pytest.mark.parametrize("version", ["0.3.2", "0.3.1"])
def test_the_network_is_that_of_its_release_in_two_and_three_dimensions(version: str, time: bool) -> None:
    """The plain network has the same output: see the test of time."""
    given = torch.tensor([0.251, 1.0]) if time else None
    size: dict[str, Any] = {"blocks": 2, "heads": 2, "version": version, "time": time, "dropout": 0.5}
    flat = RecyclingShape(2, 4, 3, (4, 8, 12), patch=(2, 1), window=(9, 12), **size)
    solid = RecyclingShape(3, 4, 3, (4, 8, 12), patch=(2, 2, 1), window=(8, 5, 6), **size)
    assert output(RecyclingUNet(flat), (9, 12), given) == pytest.approx(FLAT[version], abs=1e-4)
    assert output(RecyclingUNet(solid), (8, 5, 6), given) == pytest.approx(SOLID[version], abs=1e-4)


@pytest.mark.parametrize("time", [True, False])
def test_the_first_network_is_that_of_its_release(time: bool) -> None:
    shape = RecyclingShape(3, 4, 3, (4, 6), version="0.1.0", time=time, dropout=0.0)
    found = output(FirstRecyclingUNet(shape), (9, 12, 8), torch.tensor([0.0, 3e-4]) if time else None)
    assert found == pytest.approx(SOLID["0.1.0"], abs=1e-4)


def test_numbers_of_weights_are_those_of_the_originals() -> None:
    """Counted by JAX: muscle ultrasound, AMOS, male pelvis, BraTS; with time, and the plain networks."""
    ultrasound: dict[str, Any] = {"version": "0.3.1", "window": (480, 512)}
    cube: dict[str, Any] = {"version": "0.3.1", "window": (128,) * 3}
    pelvis: dict[str, Any] = {"version": "0.3.1", "window": (256, 256, 32)}
    first: dict[str, Any] = {"version": "0.1.0"}
    counts = [
        (RecyclingShape(2, 1 + 2, 2, **ultrasound), 13_335_554),
        (RecyclingShape(2, 1, 2, time=False, **ultrasound), 12_586_594),
        (RecyclingShape(3, 1 + 16, 16, **cube), 34_145_232),
        (RecyclingShape(3, 1, 16, time=False, **cube), 33_383_024),
        (RecyclingShape(3, 1 + 9, 9, **pelvis), 34_138_953),
        (RecyclingShape(3, 4 + 2, 2, **cube), 34_135_266),
        (RecyclingShape(3, 1 + 9, 9, **first), 6_788_841),
        (RecyclingShape(3, 1 + 16, 16, **first), 6_795_120),
        (RecyclingShape(3, 1, 9, time=False, **first), 6_681_993),
        (RecyclingShape(2, 1 + 2, 2), 12_352_514),
        (RecyclingShape(2, 1, 2, time=False), 11_603_554),
        (RecyclingShape(3, 1 + 16, 16), 33_096_656),
    ]
    with torch.device("meta"):
        for shape, count in counts:
            network = (FirstRecyclingUNet if shape.version == "0.1.0" else RecyclingUNet)(shape)
            assert sum(weight.numel() for weight in network.parameters()) == count


def test_time_is_subtracted_by_the_norm_that_follows_it() -> None:
    """It is added to whole channels, as in the originals, and the instance norm takes their mean away."""
    shape = RecyclingShape(2, 1, 2, (4, 8), 1, 2, dropout=0.0)
    network, image = RecyclingUNet(shape).eval(), torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    early, late = (network(image, torch.tensor([fraction])) for fraction in (0.1, 0.9))
    torch.testing.assert_close(early, late, atol=1e-4, rtol=0)


def test_positions_start_small_are_learned_and_belong_to_one_size() -> None:
    network = RecyclingUNet(RecyclingShape(2, 1, 2, (8, 16), 1, 2, version="0.3.1", window=(33, 40), dropout=0.0))
    assert network.positions is not None
    assert network.positions.shape == (17 * 20, 16)
    assert float(network.positions.detach().std()) == pytest.approx(0.0176, abs=0.002)  # cut off at two deviations
    network(torch.rand(1, 1, 33, 40), torch.ones(1)).square().sum().backward()
    assert network.positions.grad is not None
    assert network.positions.grad.any()
    with pytest.raises(UserError, match=r"positions for images of \[33, 40\] cells, found \[40, 33\]"):
        network(torch.rand(1, 1, 40, 33), torch.ones(1))
    assert RecyclingUNet(RecyclingShape(2, 1, 2, (4, 8), 1, 2, layers=0, version="0.3.1")).positions is None
