"""Parameters of `siamese`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.methods.generators._conditioned import Conditioned


class Params(Conditioned):
    """Constants of the paper as defaults."""

    hint: Literal["dense", "sparse"] = "dense"  # DHI, or the stock hint input (HI) of ControlNet
    start: float = Field(default=0.0, ge=0)  # first weights of the zero convolutions; 0 in the paper
    w_m: float = Field(default=1.0, ge=0)  # weight of the mask branch
    w_c: float = Field(default=1.0, ge=0)  # weight of the noise consistency
    w_a: float = Field(default=1.0, ge=0)  # weight of the online augmentation; 0 switches it off
    w_i: Literal["linear"] | float = "linear"  # weight of image control in the mix; linear: k / N
    k_tau: float = Field(default=1 / 3, ge=0, le=1)  # share of training after which online augmentation starts
    t_tau: int = Field(default=200, ge=0, le=999)  # largest timestep of online augmentation
