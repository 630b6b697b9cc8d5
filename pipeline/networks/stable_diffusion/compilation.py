"""torch.compile of a network's blocks: one set of compiled variants per block, failures as one line."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from pipeline.core.errors import UserError

# Variants that one block may have: with and without gradients, with detached weights, in training and evaluation, for
# the micro-batch, a smaller last one and the samples of online augmentation. Beyond it, dynamo would stop compiling.
VARIANTS = 32


def compile_blocks(blocks: Sequence[nn.Module]) -> None:
    """Let each block compile at its first call, for each shape alone.

    Raises UserError where torch.compile does not work at all, and from the first call where it fails there, as without
    a C compiler.
    """
    try:
        for block in blocks:
            block.compile(dynamic=False, **_own_variants(len(blocks)))
            block._compiled_call_impl = _told_in_one_line(block._compiled_call_impl)  # pyright: ignore[reportArgumentType, reportCallIssue]
    except RuntimeError as error:  # a Python or a platform that torch.compile does not support
        raise _refusal(error) from error


def _own_variants(blocks: int) -> dict[str, Any]:
    """Return the arguments that keep the variants of blocks apart, which all run the code of nn.Module's call.

    Before torch 2.15 there are none: all blocks share one limit, which is raised for the whole process instead.
    """
    config: Any = torch._dynamo.config
    every = blocks * VARIANTS
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, every)
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        return {"isolate_recompiles": True, "recompile_limit": VARIANTS}
    config.recompile_limit = max(config.recompile_limit, every)
    return {}


def _told_in_one_line(compiled: Callable[..., Any]) -> Callable[..., Any]:
    from torch._dynamo.exc import TorchDynamoException

    def call(*inputs: Any, **named: Any) -> Any:
        try:
            return compiled(*inputs, **named)
        except TorchDynamoException as error:
            raise _refusal(error) from error

    return call


def _refusal(error: Exception) -> UserError:
    return UserError(f"finetune.compile: torch.compile does not work here ({first_line(error)}); set it to false")


def first_line(error: Exception) -> str:
    """Return the first line of an error that says something, or its class; of a backend's failure, what it raised."""
    inner = getattr(error, "inner_exception", error)
    return next((line.strip() for line in str(inner).splitlines() if line.strip()), type(inner).__name__)
