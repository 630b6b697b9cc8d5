"""Convolutions of small maps, as a CPU computes them fastest.

In the last stages of an encoder, maps have 2 x 2 or 4 x 4 positions and up to a thousand channels. oneDNN then spends
a large part of a training step on the gradient of the weights of depthwise convolutions, which is a few sums of
products; and a pointwise convolution is a linear map of the channels at every position.
"""

from typing import Any, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

POSITIONS = 16  # of the largest map that is handled here; oneDNN is about as fast on larger ones


def speed_up(network: nn.Module) -> None:
    """Replace the depthwise and pointwise convolutions inside a network, in place; weights and their names stay.

    Results agree up to rounding. Larger maps, maps on a device other than a CPU, and maps in lower precision are
    convolved as before.
    """
    for name, child in network.named_children():
        if type(child) in (nn.Conv2d, Conv2dSame) and (_is_depthwise(child) or _is_pointwise(child)):
            setattr(network, name, SmallGridConv2d(cast(nn.Conv2d, child)))
        else:
            speed_up(child)


def _is_depthwise(convolution: nn.Module) -> bool:
    """Whether each channel has one kernel, without dilation and with zeros around the map."""
    assert isinstance(convolution, nn.Conv2d)
    one_each = convolution.groups == convolution.in_channels == convolution.out_channels > 1
    zeros = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    return one_each and zeros and convolution.dilation == (1, 1)


def _is_pointwise(convolution: nn.Module) -> bool:
    assert isinstance(convolution, nn.Conv2d)
    plain = convolution.groups == 1 and convolution.stride == (1, 1) and convolution.padding == (0, 0)
    return plain and convolution.kernel_size == (1, 1)


class SmallGridConv2d(nn.Module):
    """A depthwise or pointwise convolution with the weights of another one."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.groups = convolution.weight, convolution.bias, convolution.groups
        self.stride = cast(tuple[int, int], convolution.stride)
        self.padding = cast(tuple[int, int], convolution.padding)
        self.same = isinstance(convolution, Conv2dSame)  # TensorFlow's padding, which depends on the size of the map

    def forward(self, maps: Tensor) -> Tensor:
        """Return the convolution of maps [B, C, H, W]."""
        small = maps.shape[-2] * maps.shape[-1] <= POSITIONS
        if self.same:
            maps = pad_same(maps, list(self.weight.shape[-2:]), list(self.stride))
        if not small or maps.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return F.conv2d(maps, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        if self.groups == 1:
            return F.linear(maps.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        result = cast(Tensor, _Depthwise.apply(maps, self.weight, self.stride, self.padding))
        return result if self.bias is None else result + self.bias.view(-1, 1, 1)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution whose weights' gradient is one sum of products for each place in the kernel."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(maps, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (gradient,), (maps, weight) = gradients, ctx.saved_tensors
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            of_maps = conv2d_input(maps.shape, weight, gradient, ctx.stride, ctx.padding, groups=len(weight))
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(maps, gradient, weight, ctx.stride, ctx.padding)
        return of_maps, of_weight, None, None


def _weight_gradient(
    maps: Tensor, gradient: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the gradient of the weights [C, 1, h, w]: sums over images and positions, of channels that lie last."""
    maps, gradient = maps.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    sums = weight.new_zeros(*weight.shape[2:], len(weight))
    places = [
        [
            _overlap(place - padding[axis], stride[axis], gradient.shape[axis + 1], maps.shape[axis + 1])
            for place in range(weight.shape[axis + 2])
        ]
        for axis in (0, 1)
    ]
    for row, (above, below) in enumerate(places[0]):
        for column, (left, right) in enumerate(places[1]):
            if above.start == above.stop or left.start == left.stop:
                continue  # this place of the kernel only ever lies on the zeros around the map
            sums[row, column] = (gradient[:, above, left] * maps[:, below, right]).sum((0, 1, 2))
    return sums.permute(2, 0, 1).unsqueeze(1)


def _overlap(shift: int, stride: int, outputs: int, inputs: int) -> tuple[slice, slice]:
    """Return the outputs o whose input o * stride + shift lies inside the map, and these inputs; maybe none."""
    first = max(0, -(shift // stride))
    last = max(first, min(outputs, (inputs - 1 - shift) // stride + 1))
    return slice(first, last), slice(first * stride + shift, last * stride + shift, stride)
