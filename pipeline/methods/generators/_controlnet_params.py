"""Parameters of `controlnet`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.methods.generators._conditioned import Conditioned


class Params(Conditioned):
    """The stock ControlNet. The paper does not state whether its ControlNet baseline trained the decoder; ours does."""

    hint: Literal["dense", "sparse"] = "sparse"
    """Hint module: the Dense Hint Input of Siamese-Diffusion, or ControlNet's own (`sparse`)."""
    train_decoder: bool = True
    """Also train the decoder of the U-Net, as `siamese` does."""
    start: float = Field(default=0.0, ge=0)
    """Standard deviation of the initial weights of the zero convolutions; 0 in the paper."""
