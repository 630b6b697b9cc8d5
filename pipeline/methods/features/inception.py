"""FID-Inception with clean-fid's resizing (Parmar 2022): 2048 features; the extractor of FID and KID."""

from pathlib import Path

from pipeline.methods.features import _inception

OUTPUT = "rows"
WEIGHTS = _inception.WEIGHTS


def build(file: Path) -> _inception.Inception:
    """Build the extractor from a checked file, on the CPU until it gets images on another device. Raises UserError."""
    return _inception.Inception("inception", file, clean=True)
