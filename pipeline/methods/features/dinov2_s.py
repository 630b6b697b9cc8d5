"""DINOv2 ViT-S/14 (Oquab 2023): 384 features."""

from pathlib import Path

from pipeline.methods.features import _dinov2

OUTPUT = "rows"
ARCHITECTURE = "vit_small_patch14_dinov2.lvd142m"
WEIGHTS = _dinov2.published(ARCHITECTURE, 0.1e9)


def build(file: Path) -> _dinov2.DinoV2:
    """Build the extractor, on the CPU until it gets images on another device. Raises UserError."""
    return _dinov2.DinoV2("dinov2_s", ARCHITECTURE, file)
