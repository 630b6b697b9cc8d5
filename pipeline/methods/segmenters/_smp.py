"""Encoders of segmentation-models-pytorch: their initial weights, and the normalisation of their images.

The encoders mit_b0 to mit_b5 of that library are NVIDIA's code under a licence that forbids commercial use; they can be
named, and nothing names them by default.
"""

from collections.abc import Callable
from typing import Any

import timm
from torch import nn

from pipeline.core.errors import UserError
from pipeline.methods.segmenters import _encoders, _supervised
from pipeline.methods.segmenters._initial_weights import PACKAGED, PackagedWeights
from pipeline.networks import packaged_efficientnet

Make = Callable[[Any], Any]  # from encoder_weights to a network


def network(make: Make, encoder: str, weights: PackagedWeights) -> tuple[Any, dict[str, str]]:
    """Return a network with its encoder's initial weights, and the record of their origin. Raises UserError."""
    if weights == "hub":
        with _encoders.downloading(repository(encoder)):
            built = _built(make, encoder, encoder.startswith("tu-") or "imagenet")
        return built, _encoders.hub_record(repository(encoder), built.encoder)
    built = _built(make, encoder, None)
    if weights == "packaged":
        return built, _load_packaged(_inner(built.encoder), encoder)
    return built, _encoders.load_file(_inner(built.encoder), weights)


def normalisation(encoder: str) -> tuple[Any, Any]:
    """Return mean and standard deviation of the encoder's pretraining; not ImageNet's for models from TensorFlow."""
    config = timm.get_pretrained_cfg(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else None
    return _supervised.IMAGENET if config is None else (config.mean, config.std)


def _built(make: Make, encoder: str, encoder_weights: str | bool | None) -> Any:
    try:
        return make(encoder_weights)
    except OSError:  # a failed download, some of which are ValueErrors too
        raise
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"segmenters: encoder {encoder!r} cannot be built ({error}); use tu-<timm's name>") from None


def _load_packaged(inner: nn.Module, encoder: str) -> dict[str, str]:
    if encoder != PACKAGED:
        raise UserError(
            f"segmenters: packaged weights fit encoder {PACKAGED}, found {encoder}; set weights to hub, none or a file"
        )
    unused = _supervised.load_encoder(inner, packaged_efficientnet.packaged_weights(), "the packaged file")
    assert all(name.startswith(("conv_head.", "bn2.", "classifier.")) for name in unused), unused
    return _supervised.weights_record("packaged", packaged_efficientnet.weights_file())


def repository(encoder: str) -> str:
    """Return the repository that the library downloads from."""
    if encoder.startswith("tu-"):
        return _encoders.timm_repository(encoder.removeprefix("tu-"))
    return f"smp-hub/{encoder}.imagenet"


def _inner(encoder: nn.Module) -> nn.Module:
    """Return the network whose tensors have timm's names."""
    return getattr(encoder, "model", encoder)
