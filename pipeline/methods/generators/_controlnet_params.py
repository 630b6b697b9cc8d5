"""Parameters of `controlnet`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.methods.generators._conditioned import Conditioned


class Params(Conditioned):
    """The stock ControlNet; whether the compared one trained the decoder is not stated, ours does as Siamese does."""

    hint: Literal["dense", "sparse"] = "sparse"
    train_decoder: bool = True
    start: float = Field(default=0.0, ge=0)  # first weights of the zero convolutions; 0 in the paper
