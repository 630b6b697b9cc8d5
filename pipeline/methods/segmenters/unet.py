"""U-Net (Ronneberger et al. 2015) with an encoder of timm, from segmentation-models-pytorch.

An encoder mit_b0 to mit_b5 may be named; that code of NVIDIA is not for commercial use.
"""

from typing import Any

import segmentation_models_pytorch as smp
from pydantic import Field

from pipeline.core.contracts import Segmenter
from pipeline.core.section import Section
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _encoders, _smp, _supervised
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised


class Params(Section):
    """Encoder, its initial weights, decoder."""

    encoder: str = _smp.PACKAGED  # tu-<name in timm>, or a name in smp
    weights: _smp.Weights = "packaged"
    decoder_channels: tuple[int, ...] = Field(default=(128, 64, 32, 16, 16), min_length=5, max_length=5)


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return a U-Net with `spec.num_classes` output channels. Raises UserError."""

    def make(encoder_weights: Any) -> Any:
        channels = list(params.decoder_channels)
        return smp.Unet(
            params.encoder, encoder_weights=encoder_weights, classes=spec.num_classes, decoder_channels=channels
        )

    network, record = _smp.network(make, params.encoder, params.weights)
    stride = network.encoder.output_stride
    _supervised.check_spec(spec, stride)
    preprocessed = Preprocessed(network, _smp.normalisation(params.encoder), stride)
    return Supervised(preprocessed, spec, _encoders.about("unet", params, record))
