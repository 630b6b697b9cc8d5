"""Shared parts of segmenters that are trained on label maps: preprocessing, losses, prediction, files."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.core import files
from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Augment, dihedral
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _kept_pixels
from pipeline.networks import small_grids
from pipeline.networks.stable_diffusion import weight_file

WEIGHTS, RECORD = "weights.safetensors", "segmenter.json"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, standard deviation per channel


class Preprocessed(nn.Module):
    """A network behind its preprocessing: images [B, C, H, W] in [0, 1] of any size -> logits [B, K, H, W].

    Normalises, pads to a multiple of the stride by repeating the border, and crops or upsamples the logits. Grey images
    are repeated into as many channels as the normalisation has.
    """

    def __init__(self, network: nn.Module, normalisation: tuple[Sequence[float], Sequence[float]], stride: int) -> None:
        super().__init__()
        # Depthwise convolutions take about half the time in this layout on a CPU.
        self.network: Any = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        small_grids.speed_up(self.network)
        self.stride = stride
        self.mean: Tensor
        self.std: Tensor
        for name, values in zip(("mean", "std"), normalisation, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the network's logits at the image's size."""
        return self.restore_size(self.network(self.preprocess(image)), image)

    def preprocess(self, image: Tensor) -> Tensor:
        """Return the image padded and normalised. Raises UserError where it is smaller than the stride."""
        height, width = image.shape[-2:]
        check_size(min(height, width), self.stride)
        padded = F.pad(image, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        return ((padded - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def restore_size(self, maps: Tensor, image: Tensor) -> Tensor:
        """Return maps of the network [B, K, h, w] at the size of the image, without padding, in float32."""
        height, width = image.shape[-2:]
        size, maps = (height + -height % self.stride, width + -width % self.stride), maps.float()
        if maps.shape[-2:] != size:
            maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        return maps[..., :height, :width]


def min_max_normalize(image: Tensor, per_channel: bool = False) -> Tensor:
    """Scale each image of [B, C, *spatial], or each of its channels, to [0, 1]; a constant one becomes 0."""
    axes = tuple(range(2 if per_channel else 1, image.ndim))
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    return (image - low) / (high - low).clamp(min=1e-6)


class SupervisedObjective(nn.Module):
    """Cross-entropy + soft Dice loss of the classes from `first` on, each times `weight`, in float32."""

    def __init__(self, network: Preprocessed, weight: float = 1.0, first: int = 1) -> None:
        super().__init__()
        self.network, self.weight, self.first = network, weight, first

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the two losses; `progress` is not used."""
        logits = self.network(batch.image)
        with torch.autocast(logits.device.type, enabled=False):
            entropy = _kept_pixels.mean(F.cross_entropy, logits, batch.labels, batch.kept)
            dice = soft_dice_loss(logits, batch.labels, self.first, batch.kept)
            return {"cross_entropy": self.weight * entropy, "dice": self.weight * dice}


def soft_dice_loss(logits: Tensor, mask: Tensor, first: int = 1, kept: Tensor | None = None) -> Tensor:
    """Return 1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1), averaged over the classes from `first` on.

    `first` = 1 leaves the background out. Sums are over the batch, so that an image without a lesion does not reverse
    the gradient (Milletari et al. 2016), and over its `kept` pixels [B, H, W]; None: over all.
    """
    probability = logits.softmax(1)[:, first:]
    true = F.one_hot(mask, logits.shape[1]).movedim(-1, 1)[:, first:].to(probability.dtype)
    if kept is not None:
        probability, true = probability * kept[:, None], true * kept[:, None]
    dims = (0, 2, 3)
    overlap, total = (probability * true).sum(dims), (probability + true).sum(dims)
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


class Supervised:
    """A segmenter of one deterministic network (contracts.Segmenter)."""

    one_pass: ClassVar[bool] = True  # whether `probabilities` of the network's logits are the prediction
    takes_ignored: bool = True  # whether the losses leave out pixels of the label IGNORED

    def __init__(
        self, network: Preprocessed, spec: DatasetSpec, about: Mapping[str, Any], objective: nn.Module | None = None
    ) -> None:
        self.network, self.spec = network, spec
        self.about: Mapping[str, Any] = about
        self.objective = SupervisedObjective(network) if objective is None else objective

    @torch.no_grad()
    def predict(self, image: Tensor, num_samples: int = 1) -> Tensor:
        """Return probabilities [B, S, K, H, W]; the S samples are equal."""
        self.objective.eval()
        probabilities = self.probabilities(self.network(image.to(self.network.mean.device)))
        return probabilities[:, None].expand(-1, num_samples, -1, -1, -1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities [B, K, H, W], summing to 1 over the classes."""
        return logits.softmax(1)

    def augment(self, train: ImageSet) -> Augment | None:
        """Return the random augmentation of the pairs of `train`: one of the eight flips and quarter turns."""
        return dihedral

    def scale_encoder_rate(self, factor: float) -> None:
        """Multiply the encoder's learning rate by a factor. Raises UserError where there is no encoder."""
        encoder = getattr(self.network.network, "encoder", None)
        if encoder is None:
            raise UserError(f"{self.about['method']} has no encoder of its own; leave encoder_rate at 1")
        for weight in encoder.parameters():
            weight.rate_factor = factor

    def save(self, folder: Path) -> None:
        """Write the weights and, last, their record."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        with files.replacing(folder / WEIGHTS) as temporary:
            save_file(state, temporary)
        files.write_json(folder / RECORD, {"spec": self.spec.model_dump(), **self.about})

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises UserError where it belongs to another network or data set."""
        if not (folder / RECORD).is_file():
            raise UserError(f"{folder} holds no trained segmenter; run the stage that makes it")
        spec = files.read_json(folder / RECORD)["spec"]
        if spec != self.spec.model_dump():
            raise UserError(f"{folder} was trained for {spec}, not for {self.spec.model_dump()}; run its stage again")
        try:
            self.network.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{folder} holds weights of another network ({reason}); run its stage again") from None


def check_spec(spec: DatasetSpec, stride: int, channels: Collection[int] = (1, 3)) -> None:
    """Raise UserError where a network for these numbers of channels does not suit the data set; grey is repeated."""
    if spec.ndim != 2:
        raise UserError(f"{spec.name} has {spec.ndim} dimensions, but this segmenter takes images of 2")
    if spec.channels not in channels:
        supported = " or ".join(map(str, channels))
        raise UserError(
            f"{spec.name} has {spec.channels} channels, but this segmenter takes {supported}; unet_plain32,"
            " att_unet, dermosegdiff, recycling, cimd and probabilistic_unet take any number"
        )
    check_size(spec.size, stride)


def check_size(size: int, stride: int) -> None:
    """Raise UserError where an image is smaller than the coarsest cell of the network."""
    if size < stride:
        raise UserError(f"images of {size} pixels are smaller than the encoder's stride of {stride}; use larger ones")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors or PyTorch file. Raises UserError."""
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist; give a .safetensors or .pth file, or none")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = weight_file.load(path)
        if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise TypeError("it holds no table of tensors")
        return dict(state)
    except Exception as error:  # what a damaged file raises is up to pickle
        raise UserError(f"{path} cannot be read as weights ({type(error).__name__}: {error})") from error


def load_encoder(encoder: nn.Module, state: Mapping[str, Tensor], origin: str) -> list[str]:
    """Load every tensor of the encoder; return the names in `state` that it does not have (heads). Raises UserError."""
    expected = encoder.state_dict()
    missing = [name for name in expected if name not in state or state[name].shape != expected[name].shape]
    if missing:
        example = ", ".join(missing[:3])
        raise UserError(
            f"{origin} lacks {len(missing)} of {len(expected)} tensors of the encoder ({example}); wrong file?"
        )
    encoder.load_state_dict({name: state[name] for name in expected})
    return sorted(set(state) - set(expected))


def weights_record(source: Literal["packaged", "none", "file"], path: Path | None = None) -> dict[str, str]:
    """Return where initial weights came from, without a path of this machine."""
    return {"source": source} if path is None else {"source": source, "file": path.name, "sha256": files.sha256(path)}
