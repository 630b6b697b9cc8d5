"""Parameters of `siamese`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.methods.generators._conditioned import Conditioned


class Params(Conditioned):
    """Constants of the method. The defaults are the paper's."""

    hint: Literal["dense", "sparse"] = "dense"
    """Hint module: the paper's Dense Hint Input (DHI), or ControlNet's own (HI, `sparse`)."""
    start: float = Field(default=0.0, ge=0)
    """Standard deviation of the initial weights of the zero convolutions; 0 in the paper."""
    w_m: float = Field(default=1.0, ge=0)
    """Weight of the loss of the mask branch."""
    w_c: float = Field(default=1.0, ge=0)
    """Weight of the noise consistency loss."""
    w_a: float = Field(default=1.0, ge=0)
    """Weight of the online augmentation; 0 switches it off."""
    w_i: Literal["linear"] | float = "linear"
    """Weight of the image's control in the mix of both branches: `linear`, which is k / N at step k of N, or a
    constant.
    """
    k_tau: float = Field(default=1 / 3, ge=0, le=1)
    """Share of the training after which online augmentation starts."""
    t_tau: int = Field(default=200, ge=0, le=999)
    """Largest timestep of online augmentation, of 1000."""

    @property
    def last_image_weight(self) -> float:
        """The weight of the image's residuals at the end of the training, k / N at its limit (contracts.SeesImages)."""
        return 1.0 if self.w_i == "linear" else self.w_i
