"""LPIPS on AlexNet (Zhang 2018): the authors' choice for comparing images."""

from pathlib import Path

from pipeline.methods.features import _lpips

OUTPUT = "distances"
WEIGHTS = _lpips.published("alexnet-owt-7be5be79.pth", 0.2e9)


def build(file: Path) -> _lpips.Lpips:
    """Build the comparer, on the CPU until it gets images on another device. Raises UserError."""
    return _lpips.Lpips("lpips_alex", "alex", file)
