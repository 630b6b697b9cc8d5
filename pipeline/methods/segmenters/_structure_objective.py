"""Training with the structure loss at several sizes, as in Polyp-PVT and CTNet."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.core.contracts import Batch
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Augment
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _foreground, _kept_pixels, _multi_scale
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised

RATES = (0.75, 1.0, 1.25)  # of the side: 256, 352, 448 of 352


class StructureObjective(nn.Module):
    """The structure loss of every map that the network's `maps` returns, at one size per step."""

    def __init__(self, network: Preprocessed, num_classes: int, weighted_bce: bool, multi_scale: bool) -> None:
        super().__init__()
        self.network, self.num_classes = network, num_classes
        self.weighted_bce, self.multi_scale = weighted_bce, multi_scale

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return one loss per map; `progress` is not used."""
        image, target, kept = self.resize_batch(batch)
        maps = self.network.network.maps(self.network.preprocess(image))
        losses = {}
        for number, logits in enumerate(maps, start=1):
            losses[f"structure_{number}"] = self.structure_loss(self.network.restore_size(logits, image), target, kept)
        return losses

    def resize_batch(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return images, targets [B, K-1, H, W] and kept pixels (None: all) at this step's size.

        Resized targets are soft at their borders.
        """
        target, kept = _foreground.targets(batch.labels, self.num_classes), batch.kept
        if not (self.multi_scale and self.training):
            return batch.image, target, kept
        size = _multi_scale.sample_side(batch, RATES)
        image, target = (_multi_scale.resize_maps(x, size, align_corners=True) for x in (batch.image, target))
        if kept is None:
            return image, target, None
        kept = _kept_pixels.resized(kept, size, align_corners=True)
        return image, target * kept[:, None], kept

    def structure_loss(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """Return the loss of logits [B, K, H, W] over the kept pixels, in float32."""
        with torch.autocast(logits.device.type, enabled=False):
            return _foreground.structure_loss(_foreground.log_odds(logits), target, self.weighted_bce, kept)


class PolypSegmenter(Supervised):
    """A segmenter whose augmentation can be switched off."""

    def __init__(
        self,
        network: Preprocessed,
        spec: DatasetSpec,
        about: Mapping[str, Any],
        objective: nn.Module,
        augmentation: Literal["dihedral", "none"],
    ) -> None:
        super().__init__(network, spec, about, objective)
        self.augmentation = augmentation

    def augment(self, train: ImageSet) -> Augment | None:
        """Return flips and quarter turns, or nothing."""
        return super().augment(train) if self.augmentation == "dihedral" else None
