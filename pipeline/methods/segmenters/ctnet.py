"""CTNet (Xiao et al. 2024, IEEE Transactions on Cybernetics): MiT-B3, scale interaction, and pixel contrast.

Stages of 32 channels pass a two-resolution block with shared weights, are fused from coarse to fine, and joined with
the finest. The loss is the structure loss + 0.1 pixel contrast (_pixel_contrast.py says what differs from the published
code) on embeddings of the coarsest stage. The published recipe is that of Polyp-PVT with 31 epochs; as there,
`weighted_bce` and `augmentation` select paper or code, and one of three sizes is drawn for each step. With K > 2
classes see _foreground.py. The encoder is that of transformers, with the authors' 0.1 of drop-path.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.contracts import IGNORED, Batch, Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _encoders, _foreground, _mit, _pixel_contrast, _structure_objective, _supervised
from pipeline.methods.segmenters._convolutions import conv_bn
from pipeline.methods.segmenters._ctnet_params import Params
from pipeline.methods.segmenters._supervised import Preprocessed

STRIDE, WIDTH = 32, 32
SIZE = _mit.SIZES["b3"]
DROP_PATH = 0.1


def hub_repository(params: Params) -> str:
    """Return the repository that `weights: hub` downloads from."""
    return _mit.repository(SIZE)


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return a CTNet with `spec.num_classes` classes. Raises UserError."""
    _supervised.check_spec(spec, STRIDE)
    encoder = _mit.MiTEncoder(SIZE, DROP_PATH)
    record = _mit.load(encoder.transformer, SIZE, params.weights)
    network = Preprocessed(CTNet(encoder, spec.num_classes), _supervised.IMAGENET, STRIDE)
    objective = StructureContrastObjective(network, spec.num_classes, params)
    return _structure_objective.PolypSegmenter(
        network, spec, _encoders.about("ctnet", params, record), objective, params.augmentation
    )


class CTNet(nn.Module):
    """Encoder, decoder, and the embedding head that is used in training only."""

    def __init__(self, encoder: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.narrow = nn.ModuleList(conv_bn(channels, WIDTH) for channels in SIZE.widths)
        self.interact = ScaleInteraction()
        self.fuse = CrossScaleFusion()
        self.enlarge, self.join = LearnedUpsampling(), conv_bn(WIDTH, WIDTH, 3)
        self.head = nn.Conv2d(WIDTH, num_classes - 1, 1)
        layers = [layer for _ in range(3) for layer in (_transposed(), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True))]
        self.embed = nn.Sequential(*layers, nn.Conv2d(WIDTH, WIDTH, 1))

    def stages(self, image: Tensor) -> list[Tensor]:
        """Return features of 32 channels at strides 4, 8, 16, 32."""
        return [narrow(x) for narrow, x in zip(self.narrow, self.encoder(image), strict=True)]

    def decode(self, stages: list[Tensor]) -> Tensor:
        """Return logits [B, K, H / 4, W / 4]."""
        finest, *coarser = stages
        joined = self.join(finest + self.enlarge(self.fuse(*(self.interact(x) for x in coarser))))
        return _foreground.with_background(self.head(joined))

    def embedding(self, stages: list[Tensor]) -> Tensor:
        """Return unit vectors of 32 numbers per pixel, [B, 32, H / 4, W / 4]."""
        return F.normalize(self.embed(stages[-1]), dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B, K, H / 4, W / 4] of images [B, 3, H, W]."""
        return self.decode(self.stages(image))


class ScaleInteraction(nn.Module):
    """Two resolutions that exchange features; the input is added to the result."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = _conv(), _conv()
        self.fine_to_fine, self.coarse_to_fine, self.coarse_to_coarse, self.fine_to_coarse = (_conv() for _ in range(4))
        self.last_fine, self.last_coarse = _conv(), _conv()
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape as x [B, 32, h, w], any size."""
        size = x.shape[-2:]
        norms = iter(self.norms)
        fine, coarse = next(norms)(self.fine(x)).relu(), next(norms)(self.coarse(_half(x))).relu()
        mixed = next(norms)(self.fine_to_fine(fine) + self.coarse_to_fine(_resize(coarse, size))).relu()
        coarse = next(norms)(self.coarse_to_coarse(coarse) + self.fine_to_coarse(_half(fine))).relu()
        return next(norms)(self.last_fine(mixed) + self.last_coarse(_resize(coarse, size))).relu() + x


class LearnedUpsampling(nn.Sequential):
    """Learned upsampling to twice the size."""

    def __init__(self) -> None:
        super().__init__(_transposed(), conv_bn(WIDTH, WIDTH, 3))


class CrossScaleFusion(nn.Module):
    """Fuses strides 8, 16 and 32 at stride 8; one upsampling is shared by all."""

    def __init__(self) -> None:
        super().__init__()
        self.up = LearnedUpsampling()

    def forward(self, low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
        """Fuse features from fine to coarse at the size of the first."""
        lower = self.up(middle) * low + low
        middle = self.up(high) * middle + middle
        return self.up(middle) * lower + lower


class StructureContrastObjective(_structure_objective.StructureObjective):
    """The structure loss of the single map + pixel contrast."""

    def __init__(self, network: Preprocessed, num_classes: int, params: Params) -> None:
        super().__init__(network, num_classes, params.weighted_bce, params.multi_scale)
        self.contrast, self.min_pixels = params.contrast, params.min_pixels

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the two losses; `progress` is not used."""
        image, target, kept = self.resize_batch(batch)
        net: CTNet = self.network.network
        stages = net.stages(self.network.preprocess(image))
        logits = self.network.restore_size(net.decode(stages), image)
        embedding = self.network.restore_size(net.embedding(stages), image)
        with torch.autocast(logits.device.type, enabled=False):
            pixels = hard_labels(target, kept), logits.argmax(1), batch.streams
            contrast = _pixel_contrast.pixel_contrast(embedding, *pixels, self.min_pixels)
        return {"structure": self.structure_loss(logits, target, kept), "contrast": self.contrast * contrast}


def hard_labels(target: Tensor, kept: Tensor | None = None) -> Tensor:
    """Convert soft maps of the foreground classes [B, K-1, H, W] to label maps [B, H, W]; foreground above 0.5.

    Pixels that are not `kept` become IGNORED.
    """
    labels = (target.argmax(1) + 1) * (target.amax(1) > 0.5)
    return labels if kept is None else labels.masked_fill(~kept, IGNORED)


def _conv() -> nn.Conv2d:
    return nn.Conv2d(WIDTH, WIDTH, 3, padding=1)


def _transposed() -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1)


def _half(x: Tensor) -> Tensor:
    """Average-pool to half the size; a single pixel stays."""
    return F.avg_pool2d(x, 2) if min(x.shape[-2:]) > 1 else x


def _resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
