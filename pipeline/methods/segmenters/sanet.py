"""SANet (Wei et al. 2021, MICCAI): Res2Net-50 v1b, shallow attention, colour exchange, probability correction.

Three stages of the encoder (strides 8, 16, 32) are brought to 64 channels; each deeper one gates the shallower. The
loss is plain BCE + Dice per image. Sizes 256, 288, 320 and 352 of 352 are drawn with probabilities 0.1 to 0.4, one
per step. Colour exchange gives every training image the colours of a real reference (_colour_exchange.py lists the
differences from the published code). The published recipe: SGD 0.4 for the head and 0.04 for the encoder, 128 epochs
of batches of 64. With K > 2 classes see _foreground.py.
"""

from collections.abc import Mapping

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core.contracts import Batch, Segmenter
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Augment
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import (
    _colour_exchange,
    _encoders,
    _foreground,
    _kept_pixels,
    _multi_scale,
    _supervised,
)
from pipeline.methods.segmenters._sanet_params import Params
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised

STRIDE = 32
ENCODER = "res2net50d"  # timm's name of Res2Net-50 v1b 26w 4s
RATES, PROBABILITIES = (8 / 11, 9 / 11, 10 / 11, 1.0), (0.1, 0.2, 0.3, 0.4)  # of the side: 256, 288, 320, 352 of 352


def hub_repository(params: Params) -> str:
    """Return the repository that `weights: hub` downloads from."""
    return _encoders.timm_repository(ENCODER)


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return a SANet with `spec.num_classes` classes. Raises UserError."""
    _supervised.check_spec(spec, STRIDE)
    if params.colour_exchange and spec.channels != 3:
        raise UserError(f"sanet: {spec.name} is grey and has no colours to exchange; set colour_exchange: false")
    encoder, record = _encoders.from_timm(_encoder, ENCODER, params.weights, dict)
    network = Preprocessed(ShallowAttention(encoder, spec.num_classes), _supervised.IMAGENET, STRIDE)
    return SANet(network, params, spec, _encoders.about("sanet", params, record))


class ShallowAttention(nn.Module):
    """Encoder and head; returns K logits at the image's size."""

    def __init__(self, encoder: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.reduce = nn.ModuleList(_reduced(channels) for channels in (512, 1024, 2048))
        self.predict = nn.Conv2d(3 * 64, num_classes - 1, 1)
        for layer in (*self.reduce.modules(), self.predict):
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B, K, H, W] of images [B, 3, H, W]."""
        shallow, middle, deep = (reduce(x) for reduce, x in zip(self.reduce, self.encoder(image), strict=True))
        middle, deep = (_resize(x, shallow.shape[-2:]) for x in (middle, deep))
        joined = torch.cat([deep, middle * deep, shallow * middle * deep], 1)
        return _resize(_foreground.with_background(self.predict(joined)), image.shape[-2:])


class BceDiceObjective(nn.Module):
    """BCE + Dice per image, at one size per step."""

    def __init__(self, network: Preprocessed, multi_scale: bool) -> None:
        super().__init__()
        self.network, self.multi_scale = network, multi_scale

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the two losses; `progress` is not used."""
        image, mask, kept = batch.image, batch.labels, batch.kept
        if self.multi_scale and self.training:
            size = _multi_scale.sample_side(batch, RATES, PROBABILITIES)
            image = _multi_scale.resize_maps(image, size, align_corners=False)
            mask = F.interpolate(mask[:, None].float(), size=(size, size), mode="nearest")[:, 0].long()
            if kept is not None:
                kept = _kept_pixels.resized(kept, size, align_corners=False)
                mask = mask.masked_fill(~kept, 0)
        logits = self.network(image)
        with torch.autocast(logits.device.type, enabled=False):
            odds, true = _foreground.log_odds(logits), _foreground.targets(mask, logits.shape[1])
            bce = _kept_pixels.mean(F.binary_cross_entropy_with_logits, odds, true, kept)
            return {"bce": bce, "dice": _foreground.dice_per_image(odds, true, kept)}


class SANet(Supervised):
    """The segmenter: colour exchange in training, probability correction in prediction."""

    def __init__(self, network: Preprocessed, params: Params, spec: DatasetSpec, about: Mapping[str, object]) -> None:
        super().__init__(network, spec, about, BceDiceObjective(network, params.multi_scale))
        self.params = params

    def augment(self, train: ImageSet) -> Augment | None:
        """Return colour exchange with a real reference, then one of the eight flips and quarter turns."""
        if not self.params.colour_exchange:
            return super().augment(train)
        return _colour_exchange.ColourExchange(train, self.params.colour_references, super().augment(train))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities [B, K, H, W], summing to 1."""
        return correct_probabilities(logits) if self.params.probability_correction else super().probabilities(logits)


def correct_probabilities(logits: Tensor) -> Tensor:
    """Return probabilities after the paper's correction strategy, which amplifies the rarer sign of a map.

    Log-odds above 0 are divided by their fraction of the image's pixels, those below 0 by theirs. With two classes no
    sign changes, so a mask thresholded at 0.5 stays the same; scores over many thresholds rise. With more classes each
    is corrected against the rest and the probabilities are normalised to sum to 1.
    """
    odds = _foreground.log_odds(logits, first=0)
    above, below = (sign.float().mean((2, 3), keepdim=True).clamp(min=1e-12) for sign in (odds > 0, odds < 0))
    probabilities = torch.where(odds > 0, odds / above, odds / below).sigmoid()
    return probabilities / probabilities.sum(1, keepdim=True)


def _encoder(pretrained: bool) -> nn.Module:
    return timm.create_model(ENCODER, pretrained=pretrained, features_only=True, out_indices=(2, 3, 4))


def _reduced(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 64, 1), nn.BatchNorm2d(64), nn.ReLU(inplace=True))


def _resize(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
