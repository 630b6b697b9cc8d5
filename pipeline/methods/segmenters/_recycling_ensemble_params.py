"""Parameters of `recycling_ensemble`, apart from the method, so that a study is checked without loading torch."""

from typing import Self

from pydantic import model_validator

from pipeline.methods.segmenters import _recycling_params


class Params(_recycling_params.Params):
    """The parameters of `recycling`; the plain U-Net uses those that it shares."""

    @model_validator(mode="after")
    def one_part_is_diffusion(self) -> Self:
        if self.mode == "plain":
            raise ValueError(
                "mode is plain, but it chooses the diffusion model of the ensemble; the plain U-Net is always part of"
                " it"
            )
        return self
