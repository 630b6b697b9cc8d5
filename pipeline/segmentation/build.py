"""Build the segmenter of an entry of `segmenters`, trained or not."""

from pipeline.core import plugins
from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation.params import SegmenterEntry


def build_segmenter(name: str, entry: SegmenterEntry, spec: DatasetSpec) -> Segmenter:
    """Return the untrained segmenter of an entry; newly initialised weights draw from torch's global generator."""
    method = entry.method_of(name)
    params = plugins.read_params("segmenters", method, entry.options, f"segmenters.{name}")
    return plugins.load("segmenters", method).build(params, spec)
