"""SegFormer (Xie et al. 2021), from transformers (Apache-2.0); the default size is B0 with an MLP decoder of 256.

Not from segmentation-models-pytorch, whose MiT encoder carries NVIDIA's non-commercial licence. The weights that NVIDIA
published are under that licence too, so none are taken unless asked for.
"""

from pydantic import Field
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from pipeline.core.contracts import Segmenter
from pipeline.core.section import Section
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _encoders, _mit, _supervised
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised

STRIDE = 32


class Params(Section):
    """Size of the mix transformer (one value per stage) and of the decoder; B0 by default."""

    widths: _mit.Four = (32, 64, 160, 256)
    depths: _mit.Four = (2, 2, 2, 2)
    decoder_width: int = Field(default=256, gt=0)  # 768 for B2 to B5
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)  # before the classifier
    weights: _encoders.Weights = "none"  # hub: NVIDIA's, not for commercial use; a path: a file, its head is not used


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return a SegFormer with `spec.num_classes` output channels. Raises UserError."""
    _supervised.check_spec(spec, STRIDE)
    network = SegformerForSemanticSegmentation(_config(params, spec))
    record = _mit.load(network.segformer, _mit.MiTSize(params.widths, params.depths), params.weights)
    preprocessed = Preprocessed(SegFormerLogits(network), _supervised.IMAGENET, STRIDE)
    return Supervised(preprocessed, spec, _encoders.about("segformer", params, record))


class SegFormerLogits(nn.Module):
    """transformers' model as a plain function: logits at a quarter of the input's size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def encoder(self) -> nn.Module:
        """The mix transformer."""
        return self.network.segformer  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Tensor:
        return self.network(pixel_values=image).logits


def _config(params: Params, spec: DatasetSpec) -> SegformerConfig:
    return SegformerConfig(
        num_channels=3,
        hidden_sizes=list(params.widths),
        depths=list(params.depths),
        decoder_hidden_size=params.decoder_width,
        drop_path_rate=params.drop_path,
        classifier_dropout_prob=params.dropout,
        id2label={label: str(label) for label in range(spec.num_classes)},
    )
