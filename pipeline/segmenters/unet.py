"""U-Net (Ronneberger et al. 2015) with an encoder of timm, from segmentation-models-pytorch."""

from pathlib import Path
from typing import Any, Literal

import segmentation_models_pytorch as smp
import timm
from pydantic import Field
from torch import nn

from pipeline.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.errors import UserError
from pipeline.networks import packaged_efficientnet
from pipeline.parsing import Section
from pipeline.segmenters import _supervised
from pipeline.segmenters._supervised import Preprocessed, Supervised


class Params(Section):
    """Encoder, its initial weights, decoder."""

    encoder: str = f"tu-{packaged_efficientnet.ARCHITECTURE}"  # tu-<name in timm>, or a name in smp
    weights: Literal["packaged", "none"] | Path = "packaged"  # packaged: ImageNet; a path: the encoder's tensors
    decoder_channels: tuple[int, ...] = Field(default=(128, 64, 32, 16, 16), min_length=5, max_length=5)


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """A U-Net with `spec.num_classes` output channels. Raises UserError."""
    network = _network(params, spec)
    stride = network.encoder.output_stride
    _supervised.check_spec(spec, stride)
    about: dict[str, Any] = {"method": "unet", "params": params.model_dump(mode="json")}
    about["weights"] = _load_weights(network.encoder, params)
    about["params"]["weights"] = about["weights"]["source"]  # no path of this machine
    return Supervised(Preprocessed(network, _normalisation(params.encoder), stride), spec, about)


def _network(params: Params, spec: DatasetSpec) -> Any:
    channels = list(params.decoder_channels)
    try:
        return smp.Unet(params.encoder, encoder_weights=None, classes=spec.num_classes, decoder_channels=channels)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"segmenters: encoder {params.encoder!r} cannot be built ({error}); use tu-<timm's name>"
        ) from None


def _load_weights(encoder: nn.Module, params: Params) -> dict[str, str]:
    if params.weights == "none":
        return _supervised.weights_record("none")
    if isinstance(params.weights, Path):
        state = _supervised.read_weights(params.weights)
        _supervised.load_encoder(_inner(encoder), state, str(params.weights))
        return _supervised.weights_record("file", params.weights)
    if params.encoder != f"tu-{packaged_efficientnet.ARCHITECTURE}":
        raise UserError(
            f"segmenters: packaged weights fit encoder tu-{packaged_efficientnet.ARCHITECTURE}, found {params.encoder};"
            " set weights to none or to a file"
        )
    unused = _supervised.load_encoder(_inner(encoder), packaged_efficientnet.packaged_weights(), "the packaged file")
    assert all(name.startswith(("conv_head.", "bn2.", "classifier.")) for name in unused), unused
    return _supervised.weights_record("packaged", packaged_efficientnet.weights_file())


def _inner(encoder: nn.Module) -> nn.Module:
    """The network whose tensors have the names that timm gives them."""
    return getattr(encoder, "model", encoder)


def _normalisation(encoder: str) -> tuple[Any, Any]:
    """Mean and standard deviation that the encoder was pretrained with; not ImageNet's for models from TensorFlow."""
    config = timm.get_pretrained_cfg(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else None
    return _supervised.IMAGENET if config is None else (config.mean, config.std)
