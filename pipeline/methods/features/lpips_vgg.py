"""LPIPS on VGG-16 (Zhang 2018): closer to a perceptual loss."""

from pathlib import Path

from pipeline.methods.features import _lpips

OUTPUT = "distances"
WEIGHTS = _lpips.published("vgg16-397923af.pth", 0.5e9)


def build(file: Path) -> _lpips.Lpips:
    """Build the comparer, on the CPU until it gets images on another device. Raises UserError."""
    return _lpips.Lpips("lpips_vgg", "vgg", file)
