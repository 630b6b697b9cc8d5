"""The trained judge, for the stages that score synthetic images with it."""

from collections.abc import Mapping

from pipeline.core import files, paths
from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.judge.params import Judge


def load_judge(study: str, judge: Judge, segmenters: Mapping[str, SegmenterEntry], spec: DatasetSpec) -> Segmenter:
    """Return the trained judge of a study. Raises UserError where there is none for these parameters."""
    segmenter = build_segmenter(judge.segmenter, segmenters[judge.segmenter], spec)
    files.check(paths.judge(study))
    segmenter.load(paths.judge(study))
    return segmenter
