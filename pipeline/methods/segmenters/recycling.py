"""Recycling diffusion (Fu et al. 2023, arXiv 2303.06040 and 2308.16355), 2-D and 3-D, and the plain U-Net of its trunk.

A network that finds the mask in a noisy mask and the image, trained on masks that it found itself (_recycling.py tells
the modes); five steps of prediction. `mode: plain` is the same trunk without time and noise.

What is mended against the public code: time is the fraction of the steps of training in prediction too (`tau: index`
for theirs), the importance weight is 1 / (n p), a sample without foreground costs 0 and not NaN, DDIM is that of its
paper, the second pass of selfcond_next sees the noisy mask of its own level.
"""

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _patched, _supervised
from pipeline.methods.segmenters._patched import Diffused, Patched
from pipeline.methods.segmenters._recycling_params import Params


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """A segmenter of `spec.num_classes` classes. Raises UserError."""
    about = {"method": "recycling", "params": params.model_dump(mode="json"), "stochastic": params.mode != "plain"}
    about["weights"] = _supervised.weights_record("none")
    if params.mode == "plain":
        trained = _patched.plain(params, spec)
        return Patched([trained], trained, spec, about)
    part = _patched.recycled(params, spec)
    return Diffused([part], part, spec, about)
