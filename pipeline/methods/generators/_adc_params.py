"""Parameters of `adc`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.methods.generators._conditioned import Conditioned


class Params(Conditioned):
    """Constants of the method. The defaults are the paper's, as far as it states them."""

    hint: Literal["dense", "sparse"] = "dense"
    """Hint modules of student and teacher: the Dense Hint Input (DHI), or ControlNet's own (`sparse`)."""
    start: float = Field(default=0.0, ge=0)
    """Standard deviation of the initial weights of the zero convolutions; 0 in the paper."""
    w_i: float = Field(default=1.0, ge=0)
    """Weight of the image's control in the teacher's sum of both controls; the public code has 0.25."""
    w_t: float = Field(default=1.0, ge=0)
    """Weight of the teacher's loss."""
    w_d: float = Field(default=1.0, ge=0)
    """Weight of the distillation loss."""
    weighting: Literal["ratio", "normalised", "none"] = "ratio"
    """How the distillation weights lesion and background: by each other's share of the image, as in the public code
    (`ratio`); so that the weights of every image have the mean 1 (`normalised`, ours); or all alike (`none`).
    """
    detach_mask: bool = False
    """Stop the gradient of the teacher's loss at the mask's control, so that it does not train the student."""
