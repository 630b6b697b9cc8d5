"""SegFormer (Xie et al. 2021), from transformers (Apache-2.0); the default size is B0 with an MLP decoder of 256.

Not from segmentation-models-pytorch, whose MiT encoder carries NVIDIA's non-commercial licence. The weights that NVIDIA
published are under that licence too, so none are taken unless asked for.
"""

from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _encoders, _mit, _supervised
from pipeline.methods.segmenters._segformer_params import Params
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised

STRIDE = 32


def hub_repository(params: Params) -> str:
    """Return the repository that `weights: hub` downloads from."""
    return _mit.repository(_mit.MiTSize(params.widths, params.depths))


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
