"""U-Net (Ronneberger et al. 2015) with an encoder of timm, from segmentation-models-pytorch.

An encoder mit_b0 to mit_b5 may be named; that code of NVIDIA is not for commercial use.
"""

from typing import Any

import segmentation_models_pytorch as smp

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _encoders, _smp, _supervised
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised
from pipeline.methods.segmenters._unet_params import Params


def hub_repository(params: Params) -> str:
    """Return the repository that `weights: hub` downloads from."""
    return _smp.repository(params.encoder)


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
