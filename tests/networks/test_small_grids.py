"""Convolutions of small maps: equal to torch's own in float64, forwards and backwards."""

import copy
from typing import cast

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from pipeline.networks import small_grids
from pipeline.networks.small_grids import SmallGridConv2d

DEPTHWISE = [(5, 1, 2), (3, 1, 1), (5, 2, 2), (3, 2, 1), (4, 3, 0), (3, 1, 4)]  # kernel, stride, padding


def both(convolution: nn.Conv2d, maps: Tensor) -> list[tuple[Tensor, ...]]:
    """Return output and all gradients of torch's convolution, and of the same one made faster."""
    network = nn.Sequential(copy.deepcopy(convolution))
    small_grids.speed_up(network)
    assert isinstance(network[0], SmallGridConv2d)
    results: list[tuple[Tensor, ...]] = []
    for module in (convolution, network):
        inputs = maps.clone().requires_grad_()
        output = module(inputs)
        output.square().sum().backward()
        gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
        results.append((output.detach(), inputs.grad, *gradients))  # pyright: ignore[reportArgumentType]
    return results


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (1, 3), (6, 6), (5, 4), (7, 7)])
@pytest.mark.parametrize(("kernel", "stride", "padding"), DEPTHWISE)
def test_depthwise(size: tuple[int, int], kernel: int, stride: int, padding: int) -> None:
    if min(size) + 2 * padding < kernel:
        pytest.skip("the kernel is larger than the padded map")
    torch.manual_seed(0)
    convolution = nn.Conv2d(12, 12, kernel, stride, padding, groups=12, bias=padding == 1).double()
    maps = torch.randn(3, 12, *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    expected, found = both(convolution, maps)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [2, 4, 5, 8])
def test_depthwise_with_the_padding_of_tensorflow(size: int) -> None:
    torch.manual_seed(0)
    convolution = cast(nn.Conv2d, Conv2dSame(8, 8, 5, 2, groups=8, bias=False).double())
    expected, found = both(convolution, torch.randn(2, 8, size, size, dtype=torch.float64))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_pointwise(bias: bool) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 10, 1, bias=bias).double()
    expected, found = both(convolution, torch.randn(2, 6, 4, 4, dtype=torch.float64))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


def test_other_convolutions_stay() -> None:
    network = nn.Sequential(
        nn.Conv2d(8, 8, 3, groups=8, dilation=2),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.Conv2d(8, 16, 3, groups=8),
        nn.Conv2d(8, 8, 1, stride=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
    )
    small_grids.speed_up(network)
    assert not any(isinstance(child, SmallGridConv2d) for child in network)


def test_weights_and_their_names_stay() -> None:
    network = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4)), nn.Conv2d(4, 2, 1))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    small_grids.speed_up(network)
    after = network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_copy_has_weights_of_its_own() -> None:
    network = nn.Sequential(nn.Conv2d(4, 2, 1, bias=False))
    small_grids.speed_up(network)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        next(copied.parameters()).zero_()
    maps = torch.ones(1, 4, 2, 2)
    assert copied(maps).abs().sum() == 0
    assert network(maps).abs().sum() > 0


def test_lower_precision_takes_torch_s_own() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4))
    small_grids.speed_up(network)
    maps = torch.randn(1, 4, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(maps)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
