"""Soft edges by networks of controlnet-aux, over the mask: their weights, and the hint."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.methods.conditioning._lines import paint, require_images
from pipeline.methods.conditioning._soft_edges_params import SoftEdges
from pipeline.networks import pretrained
from pipeline.networks.stable_diffusion import weight_file

REPOSITORY = "hf:lllyasviel/Annotators"
KEY = "generators.<entry>.conditioning_params.file"


@dataclass(frozen=True)
class SoftEdgeHint:
    """Paints the edges that a network sees in the image."""

    name: str
    params: SoftEdges
    num_classes: int
    network: nn.Module
    edges: Callable[[nn.Module, Tensor], Tensor]  # images [B, 3, H, W] in [0, 1] -> [B, H, W] in [0, 1]

    @torch.no_grad()
    def __call__(self, masks: Tensor, images: Tensor | None = None) -> Tensor:
        """Return hints [B, 3, H, W]. Raises UserError without images."""
        images = require_images(images, self.name).float()
        self.network.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            return paint(masks, self.edges(self.network, images), self.num_classes, self.params)


def load_weights(network: nn.Module, name: str, published: pretrained.Weights, params: SoftEdges) -> nn.Module:
    """Load a network's weights and freeze it. Raises UserError where the file is missing, damaged or another one."""
    path = _file(name, published, params)
    try:
        loaded: Any = weight_file.load(path)
        state = loaded.get("state_dict", loaded)
        network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    except Exception as error:  # what a damaged file raises is up to pickle
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{path} does not hold the weights of {name} ({reason}); download {published.file} again"
        ) from error
    return network.float().eval().requires_grad_(False)


def _file(name: str, published: pretrained.Weights, params: SoftEdges) -> Path:
    if params.file is None:
        return pretrained.find(name, published, {})
    path = Path(params.file)
    if not path.is_file():
        raise UserError(
            f"params.yaml: {KEY}: there is no file {params.file}; put {published.file} from {published.source} there,"
            " or leave the key out"
        )
    return pretrained.checked(path, params.sha256 or published.sha256)


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Suppress the warnings of importing controlnet-aux about its optional parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
