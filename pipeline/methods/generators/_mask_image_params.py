"""Parameters of `mask_image`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.methods.generators._conditioned import Conditioned


class Params(Conditioned):
    """A ControlNet that is trained with the mask and the image as hints."""

    hint: Literal["dense", "sparse"] = "sparse"
    """Hint module: the Dense Hint Input of Siamese-Diffusion, or ControlNet's own (`sparse`)."""
    train_decoder: bool = True
    """Also train the decoder of the U-Net, as `siamese` does."""
    start: float = Field(default=0.0, ge=0)
    """Standard deviation of the initial weights of the zero convolutions; 0 in the paper."""
    w_i: float = Field(default=1.0, gt=0)
    """Weight of the image's control in the sum of both."""

    @property
    def last_image_weight(self) -> float:
        """The weight of the image's residuals at the end of the training (contracts.SeesImages)."""
        return self.w_i
