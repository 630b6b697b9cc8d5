"""A diffusers ControlNet whose hint enters through the Dense Hint Input: the model code that exported folders carry.

The exported file holds this module and the Dense Hint Input, and needs nothing but torch and diffusers.
"""

import inspect
from typing import Any

from diffusers import ControlNetModel

from pipeline.networks.stable_diffusion.dense_hint_input import DenseHintInput

# Stock ControlNetModel would load the folder with a random hint input and only warn. It refuses an unknown middle block
# and quotes it; this class always builds the ordinary one.
REFUSED_BY_STOCK = "none of the stock ones; this is a DenseHintControlNetModel, load it with trust_remote_code=True"


class DenseHintControlNetModel(ControlNetModel):
    """ControlNetModel with a DenseHintInput (Qiu et al. 2025) over pixels that are `hint_factor` to a latent."""

    def __init__(self, hint_factor: int = 8, mid_block_type: str = REFUSED_BY_STOCK, **stock: Any) -> None:
        super().__init__(**stock)
        self.controlnet_cond_embedding = DenseHintInput(self.config["block_out_channels"][0], hint_factor)
        self.register_to_config(hint_factor=hint_factor, mid_block_type=REFUSED_BY_STOCK)

    # diffusers takes from config.json what the signature names, and drops the rest.
    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *inspect.signature(ControlNetModel.__init__).parameters.values(),
            inspect.Parameter("hint_factor", inspect.Parameter.KEYWORD_ONLY, default=8),
        ]
    )
