"""What a network of a diffusion process predicts. No torch."""

from typing import Literal

Prediction = Literal["eps", "x0", "v"]
