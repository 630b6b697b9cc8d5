"""The mix transformer (Xie et al. 2021) of transformers (Apache-2.0) as an encoder, and files of its weights.

NVIDIA's published weights (hub: nvidia/mit-b0 to mit-b5) are under a licence that forbids commercial use, so nothing
takes them by default.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from transformers import SegformerConfig, SegformerModel

from pipeline.core.errors import UserError
from pipeline.methods.segmenters import _encoders
from pipeline.methods.segmenters._initial_weights import HubWeights

Four = tuple[int, int, int, int]
EPSILON = 1e-6  # of every LayerNorm in the authors' networks; transformers has 1e-5


class MiTSize(NamedTuple):
    """Channels and blocks of the four stages."""

    widths: Four
    depths: Four


WIDE = (64, 128, 320, 512)
SIZES = {
    "b0": MiTSize((32, 64, 160, 256), (2, 2, 2, 2)),
    "b1": MiTSize(WIDE, (2, 2, 2, 2)),
    "b2": MiTSize(WIDE, (3, 4, 6, 3)),
    "b3": MiTSize(WIDE, (3, 4, 18, 3)),
    "b4": MiTSize(WIDE, (3, 8, 27, 3)),
    "b5": MiTSize(WIDE, (3, 6, 40, 3)),
}
RENAMES = (  # from the authors' files and those of older transformers; stages of the former are counted from 1
    (r"^(segformer|backbone)\.", ""),
    (r"^patch_embed(\d)\.norm\.", r"patch_embed\1.layer_norm."),
    (r"^patch_embed(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.patch_embeddings."),
    (r"^block(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.blocks."),
    (r"^norm(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.layer_norm."),
    (r"^encoder\.patch_embeddings\.(\d)\.", r"stages.\1.patch_embeddings."),
    (r"^encoder\.block\.(\d)\.", r"stages.\1.blocks."),
    (r"^encoder\.layer_norm\.(\d)\.", r"stages.\1.layer_norm."),
    (r"\.(layer_norm_1|norm1)\.", ".layernorm_before."),
    (r"\.(layer_norm_2|norm2)\.", ".layernorm_after."),
    (r"\.attn\.", ".attention."),
    (r"\.attention\.(q|self\.query)\.", ".attention.q_proj."),
    (r"\.attention\.self\.key\.", ".attention.k_proj."),
    (r"\.attention\.self\.value\.", ".attention.v_proj."),
    (r"\.attention\.(proj|output\.dense)\.", ".attention.o_proj."),
    (r"\.attention\.(self\.)?sr\.", ".attention.sequence_reduction.sequence_reduction."),
    (r"\.attention\.(self\.layer_norm|norm)\.", ".attention.sequence_reduction.layer_norm."),
    (r"\.mlp\.dense(\d)\.", r".mlp.fc\1."),
)


class MiTEncoder(nn.Module):
    """Features of the four stages, strides 4, 8, 16 and 32."""

    def __init__(self, size: MiTSize, drop_path: float) -> None:
        super().__init__()
        widths, depths = list(size.widths), list(size.depths)
        config = SegformerConfig(hidden_sizes=widths, depths=depths, drop_path_rate=drop_path)
        self.transformer = SegformerModel(config)
        for layer in self.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.eps = EPSILON

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return four feature maps [B, C, h, w] of images [B, 3, H, W]."""
        return self.transformer(pixel_values=image, output_hidden_states=True).hidden_states


def load(transformer: nn.Module, size: MiTSize, weights: HubWeights) -> dict[str, str]:
    """Load initial weights into transformers' SegFormer and return their record. Raises UserError."""
    if weights != "hub":
        return _encoders.load_file(transformer, weights, rename_tensors)
    source = repository(size)
    with _encoders.downloading(source):
        state = SegformerModel.from_pretrained(source).state_dict()
    transformer.load_state_dict(state)
    return _encoders.hub_record(source, transformer)


def repository(size: MiTSize) -> str:
    """Return the repository of NVIDIA's weights of a size. Raises UserError where there is none."""
    for name, published in SIZES.items():
        if published == size:
            return f"nvidia/mit-{name}"
    raise UserError(
        f"segmenters: weights of the hub fit the sizes B0 to B5, found {size}; set weights to none or a file"
    )


def rename_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map the authors' or older names to those of transformers 5; split tensors that hold keys and values."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for pattern, new in RENAMES:
            name = re.sub(pattern, new, name)  # noqa: PLW2901
        if ".attention.kv." in name:
            named[name.replace(".kv.", ".k_proj.")], named[name.replace(".kv.", ".v_proj.")] = tensor.chunk(2)
        else:
            named[name] = tensor
    return named
