"""DINOv2 ViT-L/14 (Oquab 2023): 1024 features; the extractor that Stein 2023 recommend."""

from pathlib import Path

from pipeline.methods.features import _dinov2

OUTPUT = "rows"
ARCHITECTURE = "vit_large_patch14_dinov2.lvd142m"
WEIGHTS = _dinov2.published(ARCHITECTURE, 1.2e9)


def build(file: Path) -> _dinov2.DinoV2:
    """Build the extractor, on the CPU until it gets images on another device. Raises UserError."""
    return _dinov2.DinoV2("dinov2_l", ARCHITECTURE, file)
