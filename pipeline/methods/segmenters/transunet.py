"""TransUNet (Chen et al. 2021, arXiv 2102.04306), the hybrid R50-ViT-B_16; 105,276,066 weights at 224 pixels.

A ResNet of three stages with group normalisation and standardised weights, a transformer over its positions at a
sixteenth of the image's size, and a decoder that doubles the size four times and joins the ResNet's features at an
eighth, a quarter and a half of it. ResNet and transformer are timm's `vit_base_r50_s16_224`, whose weights of
ImageNet-21k are those that the authors start from; their code pads the strided convolutions and the pooling otherwise,
by the same amount at each side. The loss is half cross-entropy, half soft Dice with background.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.std_conv import StdConv2dSame
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _encoders, _supervised
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised, SupervisedObjective
from pipeline.methods.segmenters._transunet_params import Params

ARCHITECTURE = "vit_base_r50_s16_224"
STRIDE = 16
STEM, STAGES = 64, (256, 512, 1024)  # channels of the ResNet
NORMALISATION = ((0.5,) * 3, (0.5,) * 3)  # of the weights of ImageNet-21k


def hub_repository(params: Params) -> str:
    """Return the repository that `weights: hub` downloads from."""
    return _encoders.timm_repository(ARCHITECTURE)


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return a TransUNet with `spec.num_classes` output channels. Raises UserError."""
    _supervised.check_spec(spec, STRIDE)
    side = math.ceil(spec.size / STRIDE)

    def make(pretrained: bool) -> HybridEncoder:
        encoder = HybridEncoder(params, side)
        if pretrained:
            state = timm.create_model(ARCHITECTURE, pretrained=True).state_dict()
            _supervised.load_encoder(encoder, encoder_names(state, side), hub_repository(params))
        return encoder

    encoder, record = _encoders.from_timm(make, ARCHITECTURE, params.weights, partial(encoder_names, side=side))
    network = TransUNet(encoder, params, spec.num_classes)
    preprocessed = Preprocessed(network, NORMALISATION, STRIDE)
    objective = SupervisedObjective(preprocessed, weight=0.5, first=0)
    return Supervised(preprocessed, spec, _encoders.about("transunet", params, record), objective)


class HybridEncoder(nn.Module):
    """Images [B, 3, H, W] -> the transformer's maps [B, D, H/16, W/16], and three of the ResNet's."""

    def __init__(self, params: Params, side: int) -> None:
        super().__init__()
        convolution = partial(StdConv2dSame, eps=1e-8)
        self.backbone: Any = ResNetV2(
            list(params.layers),
            STAGES,
            num_classes=0,
            global_pool="",
            preact=False,
            stem_type="same",
            conv_layer=convolution,
        )
        self.proj = nn.Conv2d(STAGES[-1], params.width, 1)
        self.side = side
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, side**2, params.width), std=0.02))
        self.dropout = nn.Dropout(params.dropout)
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        drop = params.dropout
        self.blocks = nn.ModuleList(
            Block(params.width, params.heads, qkv_bias=True, proj_drop=drop, norm_layer=norm)
            for _ in range(params.depth)
        )
        self.norm = norm(params.width)
        for block in self.blocks:
            block.attn.proj_drop = nn.Identity()  # type: ignore[union-attr]  # dropout in the perceptrons alone
            _initialise(block)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the maps, and those of the ResNet at an eighth, a quarter and a half of the image's size."""
        stem = self.backbone.stem
        half = stem.norm(stem.conv(image))
        x, features = stem.pool(half), [half]
        for stage in self.backbone.stages:
            x = stage(x)
            features.append(x)
        maps = self.proj(x)
        size = maps.shape[-2:]
        tokens = self.dropout(maps.flatten(2).transpose(1, 2) + self._positions(size))
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens).transpose(1, 2).unflatten(2, size), features[-2::-1]

    def _positions(self, size: torch.Size) -> Tensor:
        """Return the learned positions, interpolated where the image has another size than those of the training."""
        old = [self.side, self.side]
        return resample_abs_pos_embed(self.pos_embed, list(size), old, num_prefix_tokens=0)


class TransUNet(nn.Module):
    """The encoder, a convolution, four levels that double the size, and the classifier."""

    def __init__(self, encoder: nn.Module, params: Params, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.middle = _layer(params.width, params.middle)
        skips = (*STAGES[-2::-1], STEM, 0)
        widths = (params.middle, *params.decoder[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(_layer(before + skip, after), _layer(after, after))
            for before, skip, after in zip(widths, skips, params.decoder, strict=True)
        )
        self.enlarge = nn.UpsamplingBilinear2d(scale_factor=2)
        self.head = nn.Conv2d(params.decoder[-1], num_classes, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B, K, H, W] of images [B, 3, H, W] with sides a multiple of 16."""
        x, skips = self.encoder(image)
        x = self.middle(x)
        for level, skip in zip(self.levels, (*skips, None), strict=True):
            x = self.enlarge(x)
            x = level(x if skip is None else torch.cat([x, skip], 1))
        return self.head(x)


def encoder_names(state: Mapping[str, Tensor], side: int) -> dict[str, Tensor]:
    """Return tensors of timm's network under the encoder's names; positions without the class token's, for `side`."""
    renamed = {name.removeprefix("patch_embed."): tensor for name, tensor in state.items()}
    if "pos_embed" in renamed and renamed["pos_embed"].ndim == 3:
        positions = renamed["pos_embed"][:, 1:]
        old = math.isqrt(positions.shape[1])
        if old**2 == positions.shape[1]:
            renamed["pos_embed"] = resample_abs_pos_embed(positions, [side, side], [old, old], num_prefix_tokens=0)
    return renamed


def _initialise(block: nn.Module) -> None:
    for layer in block.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)


def _layer(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
