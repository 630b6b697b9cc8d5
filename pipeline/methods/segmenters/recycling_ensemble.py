"""The mean probability of recycling diffusion and of the plain U-Net of its trunk (Fu et al. 2023, arXiv 2308.16355).

Both are trained side by side on the same batches; their weights meet nowhere. The public code holds no ensemble; the
paper's rule is taken to be the mean of class probabilities, of the diffusion those of its last step.
"""

from typing import Self

from pydantic import model_validator

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _patched, _recycling_params, _supervised
from pipeline.methods.segmenters._patched import Diffused
from pipeline.methods.segmenters._recycling import SideBySide


class Params(_recycling_params.Params):
    """Those of `recycling`; the plain U-Net takes what it shares with it."""

    @model_validator(mode="after")
    def one_part_is_diffusion(self) -> Self:
        if self.mode == "plain":
            raise ValueError("mode is that of the diffusion in the ensemble; the plain U-Net is in it anyway")
        return self


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """A segmenter of `spec.num_classes` classes. Raises UserError."""
    about = {"method": "recycling_ensemble", "params": params.model_dump(mode="json"), "stochastic": True}
    about["weights"] = _supervised.weights_record("none")
    parts = {"diffusion": _patched.recycled(params, spec), "plain": _patched.plain(params, spec)}
    return Diffused(list(parts.values()), SideBySide(parts), spec, about)
