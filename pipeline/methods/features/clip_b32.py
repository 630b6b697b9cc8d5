"""CLIP ViT-B/32 (Radford 2021): 512 features of length 1; the extractor of CLIP-I."""

from pathlib import Path

from pipeline.methods.features import _clip

OUTPUT = "rows"
WEIGHTS = _clip.published("timm/vit_base_patch32_clip_224.openai", 0.6e9)


def build(file: Path) -> _clip.Clip:
    """Build the extractor, on the CPU until it gets images on another device. Raises UserError."""
    return _clip.Clip("clip_b32", "ViT-B-32-quickgelu", file)
