"""Samples, image sets, readers of data layouts."""

from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample

__all__ = ["DatasetSpec", "ImageSet", "Sample"]
