"""The mean probability of recycling diffusion and of the plain U-Net of its trunk (Fu et al. 2023, arXiv 2308.16355).

Both are trained side by side on the same batches and share no weights. The public code has no ensemble; the paper's
rule is taken to be the mean of class probabilities, for the diffusion model those of its last step.
"""

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _patch_segmenter
from pipeline.methods.segmenters._patch_segmenter import DiffusionSegmenter
from pipeline.methods.segmenters._recycling import JointObjective
from pipeline.methods.segmenters._recycling_ensemble_params import Params


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return a segmenter of `spec.num_classes` classes. Raises UserError."""
    about = _patch_segmenter.about("recycling_ensemble", params, stochastic=True)
    parts = {
        "diffusion": _patch_segmenter.build_recycling(params, spec),
        "plain": _patch_segmenter.build_plain(params, spec),
    }
    return DiffusionSegmenter(list(parts.values()), JointObjective(parts), spec, about)
