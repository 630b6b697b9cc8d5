"""An exponential moving average of trained weights, optional and off in the paper."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.core.contracts import EMAWarmUpRecipe


class EMA:
    """Exponential moving average of weights.

    The decay at update n is at most (1 + n) / (10 + n) with `warmup` "ramp" (TensorFlow's rule), the given one from the
    first update on with "none", or grows by an EMAWarmUpRecipe. The average begins with the weights as they are.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        decay: float,
        warmup: Literal["ramp", "none"] | EMAWarmUpRecipe = "ramp",
    ) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay is {decay}; it must lie between 0 and 1")
        self.parameters, self.decay, self.updates = list(parameters), decay, 0
        self.warmup: Literal["ramp", "none"] | EMAWarmUpRecipe = warmup
        self.weights: list[Tensor] = [weight.detach().clone() for weight in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the weights after an optimiser step."""
        self.updates += 1
        decay = decay_at(self.updates, self.decay, self.warmup)
        torch._foreach_lerp_(self.weights, [weight.detach() for weight in self.parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the parameters hold the average; afterwards they hold the trained weights again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.updates = int(state["updates"])
        for weight, saved in zip(self.weights, state["weights"], strict=True):
            weight.copy_(saved)

    @torch.no_grad()
    def _swap(self) -> None:
        for index, weight in enumerate(self.parameters):
            trained = weight.detach().clone()
            weight.copy_(self.weights[index])
            self.weights[index].copy_(trained)


def decay_at(update: int, decay: float, warmup: Literal["ramp", "none"] | EMAWarmUpRecipe) -> float:
    """Return the decay of an update, counted from 1."""
    if warmup == "none":
        return decay
    if isinstance(warmup, EMAWarmUpRecipe):
        passed = update - warmup.after - 1
        return min(decay, 1 - (1 + passed / warmup.inv_gamma) ** -warmup.power) if passed > 1 else 0.0
    return min(decay, (1 + update) / (10 + update))
