"""Polyp-PVT (Dong et al. 2023, CAAI AIR): PVTv2-B2, cascaded fusion, camouflage identification, similarity aggregation.

Two supervised maps (before and after the aggregation), each with the structure loss; a prediction is their sum. The
published recipe: AdamW 1e-4 at a constant rate, weight decay 1e-4, gradients clipped by value at 0.5, 99 epochs of
batches of 16. With K > 2 classes see _foreground.py.

Where the code differs from the paper, or this implementation from both: the code's BCE is not weighted
(`weighted_bce`); it takes three optimiser steps on every batch, at 0.75, 1 and 1.25 of the size, where each step here
draws one of the three; it augments nothing (`augmentation: none`); it keeps the epoch with the best test score,
which is not done here; it min-max normalises each predicted map, which belongs to the scores that sweep a threshold
and not to probabilities.
"""

from collections.abc import Mapping

import timm
import torch
from timm.models.pvt_v2 import checkpoint_filter_fn
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _encoders, _foreground, _structure_objective, _supervised
from pipeline.methods.segmenters._convolutions import conv_bn, upsample2x
from pipeline.methods.segmenters._polyp_pvt_params import Params
from pipeline.methods.segmenters._supervised import Preprocessed

STRIDE, WIDTH = 32, 32
ENCODER, CHANNELS = "pvt_v2_b2", (64, 128, 320, 512)
DROP_PATH = 0.1  # the authors' value; timm's own is 0
STATE, NODES = 16, 4  # channels of the graph; its nodes are 4 x 4


def hub_repository(params: Params) -> str:
    """Return the repository that `weights: hub` downloads from."""
    return _encoders.timm_repository(ENCODER)


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return a Polyp-PVT with `spec.num_classes` classes. Raises UserError."""
    _supervised.check_spec(spec, STRIDE)
    encoder, record = _encoders.from_timm(_encoder, ENCODER, params.weights, rename_tensors)
    network = Preprocessed(PolypPVT(encoder, spec.num_classes), _supervised.IMAGENET, STRIDE)
    objective = _structure_objective.StructureObjective(
        network, spec.num_classes, params.weighted_bce, params.multi_scale
    )
    about = _encoders.about("polyp_pvt", params, record)
    return _structure_objective.PolypSegmenter(network, spec, about, objective, params.augmentation)


class PolypPVT(nn.Module):
    """Encoder and decoder; `maps` returns the two supervised maps, `forward` their sum."""

    def __init__(self, encoder: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.identify = CamouflageIdentification(CHANNELS[0])
        self.narrow = nn.ModuleList(conv_bn(channels, WIDTH) for channels in CHANNELS)
        self.fuse = CascadedFusion()
        self.aggregate = SimilarityAggregation()
        self.heads = nn.ModuleList(nn.Conv2d(WIDTH, num_classes - 1, 1) for _ in range(2))

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, K, H / 8, W / 8] before and after the aggregation."""
        first, *deeper = self.encoder(image)
        detail, *deeper = (n(x) for n, x in zip(self.narrow, (self.identify(first), *deeper), strict=True))
        fused = self.fuse(*deeper)
        both = zip(self.heads, (fused, self.aggregate(fused, detail)), strict=True)
        before, after = (_foreground.with_background(head(x)) for head, x in both)
        return before, after

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B, K, H / 8, W / 8] of images [B, 3, H, W]."""
        before, after = self.maps(image)
        return before + after


class CamouflageIdentification(nn.Module):
    """Channel attention, then spatial attention, on the shallowest stage."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, widen = (
            nn.Conv2d(channels, channels // 16, 1, bias=False),
            nn.Conv2d(channels // 16, channels, 1, bias=False),
        )
        self.shared = nn.Sequential(narrow, nn.ReLU(inplace=True), widen)
        self.place = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate features [B, C, h, w]."""
        mean, top = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        x = x * (self.shared(mean) + self.shared(top)).sigmoid()
        return x * self.place(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


class CascadedFusion(nn.Module):
    """Fuse strides 8, 16 and 32 at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.deep_to_middle, self.deep_to_shallow, self.middle_to_shallow, self.deep_kept = (
            conv_bn(WIDTH, WIDTH, 3) for _ in range(4)
        )
        self.join_two, self.pair_kept = conv_bn(2 * WIDTH, 2 * WIDTH, 3), conv_bn(2 * WIDTH, 2 * WIDTH, 3)
        self.join_three, self.narrow = conv_bn(3 * WIDTH, 3 * WIDTH, 3), conv_bn(3 * WIDTH, WIDTH, 3)

    def forward(self, shallow: Tensor, middle: Tensor, deep: Tensor) -> Tensor:
        """Fuse three maps of 32 channels to 32 at the size of the first."""
        up = upsample2x(deep)
        pair = self.join_two(torch.cat([self.deep_to_middle(up) * middle, self.deep_kept(up)], 1))
        gated = self.deep_to_shallow(upsample2x(up)) * self.middle_to_shallow(upsample2x(middle)) * shallow
        return self.narrow(self.join_three(torch.cat([gated, self.pair_kept(upsample2x(pair))], 1)))


class SimilarityAggregation(nn.Module):
    """A graph over 4 x 4 regions, weighted by an edge map of the detail; its result is added to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.project = nn.Conv2d(WIDTH, STATE, 1), nn.Conv2d(WIDTH, STATE, 1)
        self.across_nodes = nn.Conv1d(NODES**2, NODES**2, 1)
        self.across_channels = nn.Conv1d(STATE, STATE, 1, bias=False)
        self.back = nn.Conv2d(STATE, WIDTH, 1, bias=False)

    def forward(self, fused: Tensor, detail: Tensor) -> Tensor:
        """Return features of the same shape from features [B, 32, h, w] and detail [B, 32, 2h, 2w]."""
        size = fused.shape[-2:]
        edge = F.interpolate(detail, size=size, mode="bilinear", align_corners=True).softmax(1)[:, 1:2]
        state, project = self.state(fused).flatten(2), self.project(fused)
        anchors = F.adaptive_avg_pool2d(project * edge, NODES + 2)[..., 1:-1, 1:-1].flatten(2)  # [B, 16, nodes]
        share = (anchors.mT @ project.flatten(2)).softmax(1)  # [B, nodes, h w]
        nodes = state @ share.mT
        mixed = self.across_nodes(nodes.mT).mT - nodes
        return fused + self.back((self.across_channels(mixed).relu() @ share).unflatten(2, size))


def rename_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map the authors' or timm's names to those of an encoder that returns its stages."""
    named = checkpoint_filter_fn(dict(state), None)
    return {name.replace("stages.", "stages_", 1): tensor for name, tensor in named.items()}


def _encoder(pretrained: bool) -> nn.Module:
    return timm.create_model(ENCODER, pretrained=pretrained, features_only=True, drop_path_rate=DROP_PATH)
