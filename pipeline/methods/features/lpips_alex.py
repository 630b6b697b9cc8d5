"""LPIPS on AlexNet (Zhang 2018): the authors' choice for comparing images."""

from pathlib import Path

from pipeline.methods.features import _lpips

GIVES = "distances"
WEIGHTS = _lpips.published("alexnet-owt-7be5be79.pth")


def build(file: Path) -> _lpips.Lpips:
    """The comparer, on the CPU until it sees images of another device. Raises UserError."""
    return _lpips.Lpips("lpips_alex", "alex", file)
