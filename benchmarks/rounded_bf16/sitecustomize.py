"""bfloat16 arithmetic on a processor without instructions for it: rounded operands, sums in float32.

Python imports this module at its start if its folder is on PYTHONPATH. Convolutions and linear layers under autocast to
bfloat16 then round their operands, their results and all their gradients to bfloat16, and sum in float32. This is what
the instructions AVX512_BF16 and AMX do; the reference kernels that oneDNN takes instead are twenty times as slow.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def rounded(layer: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `layer(input, weight, bias, ...)` with rounded operands wherever autocast asks for bfloat16."""

    def call(input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: object, **options: object) -> Tensor:
        if not (torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16):
            return layer(input, weight, bias, *rest, **options)
        operands = [None if value is None else value.bfloat16().float() for value in (input, weight, bias)]
        with torch.autocast("cpu", enabled=False):
            return layer(*operands, *rest, **options).bfloat16()

    return call


torch.nn.functional.conv2d = rounded(torch.nn.functional.conv2d)
torch.nn.functional.linear = rounded(torch.nn.functional.linear)
