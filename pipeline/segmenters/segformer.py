"""SegFormer (Xie et al. 2021), from transformers (Apache-2.0); the default size is B0 with an MLP decoder of 256.

Not from segmentation-models-pytorch, whose MiT encoder carries NVIDIA's non-commercial licence. The weights that NVIDIA
published are under that licence too, so none come with this package.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from pipeline.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.parsing import Section
from pipeline.segmenters import _supervised
from pipeline.segmenters._supervised import Preprocessed, Supervised

STRIDE = 32
Four = tuple[int, int, int, int]


class Params(Section):
    """Size of the mixed transformer (one value per stage) and of the decoder; B0 by default."""

    widths: Four = (32, 64, 160, 256)
    depths: Four = (2, 2, 2, 2)
    decoder_width: int = Field(default=256, gt=0)  # 768 for B2 to B5
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)  # before the classifier
    weights: Literal["none"] | Path = "none"  # a path: a file of transformers' SegFormer; its head is not used


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """A SegFormer with `spec.num_classes` output channels. Raises UserError."""
    _supervised.check_spec(spec, STRIDE)
    network = SegformerForSemanticSegmentation(_config(params, spec))
    about: dict[str, Any] = {"method": "segformer", "params": params.model_dump(mode="json")}
    about["weights"] = _load_weights(network.segformer, params)
    about["params"]["weights"] = about["weights"]["source"]  # no path of this machine
    return Supervised(Preprocessed(Logits(network), _supervised.IMAGENET, STRIDE), spec, about)


class Logits(nn.Module):
    """transformers' model as a plain function: logits at a quarter of the input's size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(pixel_values=image).logits


def _config(params: Params, spec: DatasetSpec) -> SegformerConfig:
    return SegformerConfig(
        num_channels=spec.channels,
        hidden_sizes=list(params.widths),
        depths=list(params.depths),
        decoder_hidden_size=params.decoder_width,
        drop_path_rate=params.drop_path,
        classifier_dropout_prob=params.dropout,
        id2label={label: str(label) for label in range(spec.num_classes)},
    )


def _load_weights(encoder: nn.Module, params: Params) -> dict[str, str]:
    if params.weights == "none":
        return _supervised.weights_record("none")
    path = Path(params.weights)
    state = {name.removeprefix("segformer."): tensor for name, tensor in _supervised.read_weights(path).items()}
    _supervised.load_encoder(encoder, state, str(path))
    return _supervised.weights_record("file", path)
