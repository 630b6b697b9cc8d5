"""LPIPS on VGG-16 (Zhang 2018): closer to a perceptual loss."""

from pathlib import Path

from pipeline.methods.features import _lpips

GIVES = "distances"
WEIGHTS = _lpips.published("vgg16-397923af.pth")


def build(file: Path) -> _lpips.Lpips:
    """The comparer, on the CPU until it sees images of another device. Raises UserError."""
    return _lpips.Lpips("lpips_vgg", "vgg", file)
