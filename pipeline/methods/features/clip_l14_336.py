"""CLIP ViT-L/14 at 336 pixels (Radford 2021): 768 features of length 1; the extractor of CMMD (Jayasumana 2024)."""

from pathlib import Path

from pipeline.methods.features import _clip

OUTPUT = "rows"
WEIGHTS = _clip.published("timm/vit_large_patch14_clip_336.openai", 1.7e9)


def build(file: Path) -> _clip.Clip:
    """Build the extractor, on the CPU until it gets images on another device. Raises UserError."""
    return _clip.Clip("clip_l14_336", "ViT-L-14-336-quickgelu", file)
