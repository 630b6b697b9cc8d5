"""DeepLabV3+ (Chen et al. 2018) with an encoder of timm, from segmentation-models-pytorch.

Atrous convolutions keep the encoder's last stage at a 16th of the image's size; encoders that cannot be dilated are
refused. Batch-norm over pooled pixels needs two images in a batch. An encoder mit_b0 to mit_b5 may be named; that code
of NVIDIA is not for commercial use.
"""

from typing import Any

import segmentation_models_pytorch as smp

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _encoders, _smp, _supervised
from pipeline.methods.segmenters._deeplabv3plus_params import Params
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised


def hub_repository(params: Params) -> str:
    """Return the repository that `weights: hub` downloads from."""
    return _smp.repository(params.encoder)


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return a DeepLabV3+ with `spec.num_classes` output channels. Raises UserError."""

    def make(encoder_weights: Any) -> Any:
        return smp.DeepLabV3Plus(
            params.encoder,
            encoder_weights=encoder_weights,
            encoder_output_stride=params.output_stride,
            decoder_channels=params.decoder_channels,
            classes=spec.num_classes,
        )

    network, record = _smp.network(make, params.encoder, params.weights)
    _supervised.check_spec(spec, params.output_stride)
    preprocessed = Preprocessed(network, _smp.normalisation(params.encoder), params.output_stride)
    return Supervised(preprocessed, spec, _encoders.about("deeplabv3plus", params, record))
