"""Import of checkpoints of DermoSegDiff's public code as a kept segmenter, by renaming of weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _supervised, dermosegdiff
from pipeline.methods.segmenters._dermosegdiff_params import Params
from pipeline.networks.stable_diffusion import weight_file
from pipeline.networks.unets import dual_path_keys
from pipeline.networks.unets.dual_path_unet import DualPathShape
from pipeline.segmentation.saved_model import save_model

AVERAGE = "ema_model."  # of the moving average, in the table of the package ema-pytorch
ADVICE = "name a checkpoint that DermoSegDiff's training wrote (NAME_best.pth)"


@dataclass(frozen=True)
class Sampling:
    """How the imported segmenter predicts; the defaults are the paper's."""

    size: int = 128  # pixels; images are squashed to it
    samples: int = 9  # masks that are averaged; 5 in the code
    steps: int = 250
    sampler: Literal["ddpm", "ddim"] = "ddpm"  # ddim clips each step's mask to [-1, 1], ddpm does not


def import_checkpoint(path: Path, folder: Path, sampling: Sampling) -> None:
    """Write the network of a checkpoint of the authors' code as a kept segmenter, replacing what the folder holds.

    The averaged weights are taken where the file has some, as the authors' tests do. Raises UserError where the file is
    damaged, holds something else, or would run code when read.
    """
    state = read_weights(path)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    try:
        shape = dual_path_keys.shape_of(shapes)
    except ValueError as fault:
        found = ", ".join(sorted(state)[:3])
        raise UserError(f"{path} holds no DermoSegDiff: it {fault} (it holds {found}, ...); {ADVICE}") from None
    segmenter = _build(path, shape, sampling)
    network = segmenter.network.network
    names = dual_path_keys.table(network.state_dict(), len(shape.mult_x))
    _check(path, shapes, {names[key]: tuple(tensor.shape) for key, tensor in network.state_dict().items()})
    network.load_state_dict({key: state[name].float() for key, name in names.items()})
    segmenter.about = {**segmenter.about, "weights": _supervised.weights_record("file", path)}
    save_model(segmenter, segmenter.spec, folder, {})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the averaged weights of a checkpoint, or the last ones where it has no average, by the authors' names.

    Raises UserError.
    """
    content: Any = weight_file.read(path) if path.suffix == ".safetensors" else weight_file.content(path)
    if isinstance(content, Mapping):
        content = next((one for key in ("ema", "model") if isinstance(one := content.get(key), Mapping)), content)
        tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
        averages = {key.removeprefix(AVERAGE): value for key, value in tensors.items() if key.startswith(AVERAGE)}
        if tensors:
            return averages or tensors
    raise UserError(f"{path} holds no table of weights; {ADVICE}")


def _build(path: Path, shape: DualPathShape, sampling: Sampling) -> dermosegdiff.DermoSegDiff:
    """Return the segmenter of these sizes with the authors' diffusion process."""
    if shape.mask_channels != 1:
        raise UserError(f"{path} draws {shape.mask_channels} maps (init_conv_x.weight); only one of a lesion is known")
    if sizes := [width for width in (shape.width_x, shape.width_g) if width < 4 or width % 2]:
        raise UserError(f"{path} has a path of {sizes[0]} channels; they must be even and at least 4; {ADVICE}")
    params = Params(
        width_x=shape.width_x,
        width_g=shape.width_g,
        mult_x=shape.mult_x,
        mult_g=shape.mult_g,
        heads=shape.heads,
        dim_head=shape.dim_head,
        groups=shape.groups,
        stem_stride=shape.stem_stride,
        prediction="eps",
        train_first=False,
        sampler=sampling.sampler,
        steps=sampling.steps,
        samples=sampling.samples,
        clip=sampling.sampler == "ddim",
        augmentation="paper",
    )
    spec = DatasetSpec(name=path.stem, size=sampling.size, channels=shape.image_channels)
    with torch.random.fork_rng(devices=[]):
        segmenter = dermosegdiff.build(params, spec)
    assert isinstance(segmenter, dermosegdiff.DermoSegDiff)
    return segmenter


def _check(path: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise UserError where a checkpoint does not hold exactly the weights of the network that its sizes imply."""
    if missing := sorted(expected.keys() - found.keys()):
        raise UserError(
            f"{path} lacks {len(missing)} of the {len(expected)} weights of its network, {missing[0]} for one; {ADVICE}"
        )
    if unknown := sorted(found.keys() - expected.keys()):
        raise UserError(f"{path} holds {len(unknown)} weights that no DermoSegDiff has, {unknown[0]} for one; {ADVICE}")
    if wrong := sorted(key for key in expected if found[key] != expected[key]):
        sizes = f"{list(found[wrong[0]])}, must be {list(expected[wrong[0]])} in a network of its other sizes"
        raise UserError(f"{path}: {wrong[0]} is {sizes}; {ADVICE}")
