"""Probabilistic U-Net (Kohl et al. 2018, NeurIPS): a U-Net with a latent space, whose points are masks of raters.

A training step takes the mask of one rater. The posterior sees it beside the image and yields the point z at which the
U-Net has to give this mask; the prior sees the image alone and is drawn towards the posterior. The loss is the negative
lower bound of the log-likelihood, cross-entropy + beta KL(posterior || prior) (Eq. 4), with the cross-entropy summed
over the pixels of an image, as in the authors' code. Here the whole is divided by the number of pixels, which AdamW
does not notice. In prediction, each sample is a point drawn from the prior.

Mean pooling, bilinear upsampling and first weights are those of the authors' code too. The posterior sees masks of -1
and 1 (theirs: -0.5 and 0.5, one map per class), and no penalty on the size of weights is added: that is weight_decay.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Independent

from pipeline.core import seeding
from pipeline.core.contracts import Batch, Segmenter
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Augment
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion import noise
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.methods.segmenters import _mask_denoiser, _supervised
from pipeline.methods.segmenters._probabilistic_unet_params import Params
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised
from pipeline.networks.unets import gaussian_encoder
from pipeline.networks.unets.gaussian_encoder import GaussianEncoder
from pipeline.networks.unets.probabilistic_unet import ProbabilisticShape, ProbabilisticUNet


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return the segmenter of images of `spec.channels` channels. Raises UserError for volumes."""
    if spec.ndim != 2:
        raise UserError(f"probabilistic_unet segments images; {spec.name} has {spec.ndim} dimensions")
    sizes = params.model_dump(include={"filters", "convolutions", "latent", "joining"})
    shape = ProbabilisticShape(spec.channels, spec.num_classes, **sizes)
    _supervised.check_size(spec.size, shape.stride)
    unchanged = ((0.0,) * spec.channels, (1.0,) * spec.channels)
    network = Preprocessed(ProbabilisticUNet(shape), unchanged, shape.stride)
    return ProbabilisticSegmenter(network, params, spec)


class LowerBound(nn.Module):
    """Cross-entropy and beta KL(posterior || prior), in nats per pixel, means over the batch."""

    def __init__(self, network: Preprocessed, params: Params, num_classes: int) -> None:
        super().__init__()
        self.network, self.beta, self.num_classes = network, params.beta, num_classes
        maps = 1 if num_classes == 2 else num_classes
        self.posterior = GaussianEncoder(network.network.shape.gaussian(maps))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the two losses; `progress` is not used."""
        image, unet = self.network.preprocess(batch.image), self.network.network
        maps = _mask_denoiser.one_hot_maps(batch.mask, self.num_classes).to(image.dtype)
        posterior = self.posterior(image, _mask_denoiser.encode_maps(maps, image.shape[-2:]))
        prior = unet.prior(image)
        rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
        (logits,) = unet(image, [draw(posterior, rngs)])
        with torch.autocast(image.device.type, enabled=False):
            logits = at_least_float32(logits)[..., : batch.mask.shape[-2], : batch.mask.shape[-1]]
            entropy = F.cross_entropy(logits, batch.mask)
            divergence = gaussian_encoder.divergence(posterior, prior).mean() / batch.mask[0].numel()
            return {"cross_entropy": entropy, "divergence": self.beta * divergence}


def draw(gaussian: Independent, rngs: list[torch.Generator]) -> Tensor:
    """Return one point [B, latent] of each Gaussian, from the stream of its image; differentiable."""
    mean, sigma = gaussian.base_dist.loc, gaussian.base_dist.scale
    return mean + sigma * noise_of(rngs, tuple(mean.shape[1:])).to(mean)


class ProbabilisticSegmenter(Supervised):
    """A segmenter whose samples are points of the prior."""

    one_pass = False
    takes_ignored = False  # the posterior sees the whole mask

    def __init__(self, network: Preprocessed, params: Params, spec: DatasetSpec) -> None:
        about: dict[str, Any] = {"method": "probabilistic_unet", "params": params.model_dump(mode="json")}
        about |= {"weights": _supervised.weights_record("none"), "stochastic": True}
        super().__init__(network, spec, about, LowerBound(network, params, spec.num_classes))
        self.params = params

    @torch.no_grad()
    def predict(self, image: Tensor, num_samples: int = 1) -> Tensor:
        """Return probabilities [B, S, K, H, W]; the point of a sample depends on the image and the sample's number."""
        self.objective.eval()
        prepared, unet = self.network.preprocess(image.to(self.network.mean.device)), self.network.network
        prior = unet.prior(prepared)
        points = [draw(prior, noise.image_streams(image, sample)) for sample in range(num_samples)]
        logits = [self.network.restore_size(maps, image) for maps in unet(prepared, points)]
        return torch.stack(logits, 1).softmax(2)

    def augment(self, train: ImageSet) -> Augment | None:
        """Return flips and quarter turns, or nothing."""
        return super().augment(train) if self.params.augmentation == "dihedral" else None
