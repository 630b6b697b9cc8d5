"""An exponential moving average of trained weights, optional and off in the paper."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """Moving average of weights; early on it follows them faster: the decay is at most (1 + n) / (10 + n)."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay is {decay}; it must lie between 0 and 1")
        self.parameters, self.decay, self.updates = list(parameters), decay, 0
        self.weights: list[Tensor] = [weight.detach().clone() for weight in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights after an optimiser step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.weights, [weight.detach() for weight in self.parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the parameters hold the average; afterwards the trained weights are back."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.updates = int(state["updates"])
        for ours, saved in zip(self.weights, state["weights"], strict=True):
            ours.copy_(saved)

    @torch.no_grad()
    def _swap(self) -> None:
        for index, weight in enumerate(self.parameters):
            trained = weight.detach().clone()
            weight.copy_(self.weights[index])
            self.weights[index].copy_(trained)
