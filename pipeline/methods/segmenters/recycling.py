"""Recycling diffusion (Fu et al. 2023, arXiv 2303.06040 and 2308.16355), 2-D and 3-D, and the plain U-Net of its trunk.

A network that predicts the mask from a noisy mask and the image, trained on its own predictions (_recycling.py lists
the modes); five sampling steps. `mode: plain` is the same trunk without time and noise.

Corrections to the public code: time is the fraction of the training steps in prediction too (`tau: index` for theirs),
the importance weight is 1 / (n p), the loss of a sample without foreground is 0 and not NaN, DDIM follows its paper,
the second pass of selfcond_next uses the noisy mask of its own level.
"""

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _patch_segmenter
from pipeline.methods.segmenters._patch_segmenter import DiffusionSegmenter, PatchSegmenter
from pipeline.methods.segmenters._recycling_params import Params


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return a segmenter of `spec.num_classes` classes. Raises UserError."""
    about = _patch_segmenter.about("recycling", params, stochastic=params.mode != "plain")
    if params.mode == "plain":
        plain = _patch_segmenter.build_plain(params, spec)
        return PatchSegmenter([plain], plain, spec, about)
    part = _patch_segmenter.build_recycling(params, spec)
    return DiffusionSegmenter([part], part, spec, about)
