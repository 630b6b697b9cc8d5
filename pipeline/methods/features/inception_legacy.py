"""FID-Inception with the resizing inside its file (TensorFlow 1, bilinear, aliased): clean-fid's legacy_tensorflow."""

from pathlib import Path

from pipeline.methods.features import _inception

OUTPUT = "rows"
WEIGHTS = _inception.WEIGHTS


def build(file: Path) -> _inception.Inception:
    """Build the extractor from a checked file, on the CPU until it gets images on another device. Raises UserError."""
    return _inception.Inception("inception_legacy", file, clean=False)
