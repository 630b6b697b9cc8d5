"""Memory and arithmetic of a piece of training, counted on the meta device without running it.

The meta device knows shapes and no numbers. Every storage that an operation makes is counted from its birth to its
death, so that what the gradient keeps, recomputation and short-lived tensors are all in the peak. Two things differ on
the meta device from a GPU and are mended here: attention is counted as the kernel that keeps no attention matrix, and
bf16 autocast is acted out (products in bf16, norms in float32, each weight cast once).
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

PRODUCTS = ("linear", "conv2d")
NORMS = ("group_norm", "layer_norm")
T = TypeVar("T")


@dataclass(frozen=True)
class Footprint:
    """Bytes of one forward and backward pass beyond weights and gradients."""

    kept: int  # alive after the forward pass: activations for the gradient, weights cast to bf16
    peak: int  # at the worst moment of both passes


class StorageTracker(TorchDispatchMode):
    """Tracks the bytes of storages created within that are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.current = self.peak = 0
        self.alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        old = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and id(leaf.untyped_storage()) not in old:
                self._created(leaf.untyped_storage())
        return result

    def _created(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.alive:
            return
        self.alive.add(key)
        self.current += size
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.current -= size


class _Attention(torch.autograd.Function):
    """Scaled dot-product attention that saves query, key, value, result and one number per row."""

    operations = 0  # of all calls so far: two products forward and, beside recomputation, four backward

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result, query.new_empty(query.shape[:-1], dtype=torch.float32))
        _Attention.operations += 2 * query.numel() * key.shape[-2] + 2 * result.numel() * key.shape[-2]
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, result, _ = ctx.saved_tensors
        by_query, by_key, by_value = ctx.needs_input_grad
        scores, mixes = 2 * query.numel() * key.shape[-2], 2 * result.numel() * key.shape[-2]  # of one product each
        _Attention.operations += (by_query + by_key) * scores + (by_value + (by_query or by_key)) * mixes
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class GpuEmulation:
    """Within: fused attention, and with `half` bf16 autocast as on CUDA, which the meta device does not have.

    The functions themselves are patched: a TorchFunctionMode is not active in the recomputation of a checkpoint.
    """

    def __init__(self, half: bool) -> None:
        self.half, self.casts = half, dict[nn.Parameter, Tensor]()
        self.caching = True  # a weight is cast once in the forward pass, and again by every recomputation
        self.patched: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Self:
        self._patch(F, "scaled_dot_product_attention", lambda *x, **_: _Attention.apply(*map(self._product, x[:3])))
        for name in PRODUCTS:
            self._patch(F, name, self._casting(getattr(F, name), self._product))
        for name in NORMS:
            self._patch(F, name, self._casting(getattr(F, name), self._norm))
        self._patch(torch, "is_autocast_enabled", lambda *_: self.half)
        self._patch(torch, "autocast", self._autocast)
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, function in self.patched:
            setattr(owner, name, function)

    def end_autocast(self) -> None:
        """End autocast: casts of weights live on only where the gradient holds them."""
        self.casts.clear()
        self.caching = False

    def _patch(self, owner: Any, name: str, function: Any) -> None:
        self.patched.append((owner, name, getattr(owner, name)))
        setattr(owner, name, function)

    @contextmanager
    def _autocast(self, *_: object, enabled: bool = True) -> Iterator[None]:
        before, self.half = self.half, self.half and enabled
        yield
        self.half = before

    def _casting(self, function: Callable[..., Tensor], cast: Callable[[Any], Any]) -> Callable[..., Tensor]:
        def wrapped(*inputs: Any, **named: Any) -> Tensor:
            return function(*map(cast, inputs), **{name: cast(value) for name, value in named.items()})

        return wrapped

    def _norm(self, value: Any) -> Any:
        return value.float() if self.half and isinstance(value, Tensor) else value

    def _product(self, value: Any) -> Any:
        if not self.half or not isinstance(value, Tensor):
            return value
        if not isinstance(value, nn.Parameter) or not value.requires_grad or not self.caching:
            return value.to(torch.bfloat16)
        if value not in self.casts:
            self.casts[value] = value.to(torch.bfloat16)
        return self.casts[value]


def footprint(forward: Callable[[], Tensor], half: bool = False, fused: bool = True) -> Footprint:
    """Measure the memory of `forward` (returning a loss) and its gradient; meta weights must have gradients already.

    `fused` False counts attention without fusion, for a comparison with a CPU.
    """
    tracker, gpu = StorageTracker(), GpuEmulation(half)
    with ExitStack() as modes:
        if fused or half:
            modes.enter_context(gpu)
        modes.enter_context(tracker)
        loss = forward()
        gpu.end_autocast()  # as autocast at its end; what the gradient holds lives on
        kept = tracker.current
        loss.backward()
    return Footprint(kept, tracker.peak)


def operations(forward: Callable[[], Tensor]) -> int:
    """Count the floating-point operations (2 per multiplication with addition) of `forward` and its gradient."""
    before = _Attention.operations
    with FlopCounterMode(display=False) as counter, GpuEmulation(half=False):
        forward().backward()
    return counter.get_total_flops() + _Attention.operations - before


def forward_operations(function: Callable[[], T]) -> tuple[T, int]:
    """Return the result of a function that needs no gradient, and its floating-point operations."""
    before = _Attention.operations
    with torch.no_grad(), FlopCounterMode(display=False) as counter, GpuEmulation(half=False):
        result = function()
    return result, counter.get_total_flops() + _Attention.operations - before
