"""Initial weights of encoders (none, a file, the hub of their library), and encoders of timm."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import timm
from huggingface_hub.errors import HTTPError
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.methods.segmenters import _supervised
from pipeline.methods.segmenters._initial_weights import HubWeights


@contextmanager
def downloading(repository: str) -> Iterator[None]:
    """Turn a failed download into a UserError that names the alternatives."""
    try:
        yield
    except (OSError, HTTPError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"segmenters: weights of {repository} are not in the cache and could not be downloaded"
            f" ({type(error).__name__}: {reason}); set weights to a file, or to none"
        ) from None


def hub_record(repository: str, encoder: nn.Module) -> dict[str, str]:
    """Return the record of weights from the hub, with a hash of the tensors."""
    return {"source": "hub", "repository": repository, "tensors_sha256": tensors_sha256(encoder.state_dict())}


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Return one hash over names and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def from_timm(
    make: Callable[[bool], nn.Module],
    architecture: str,
    weights: HubWeights,
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
) -> tuple[nn.Module, dict[str, str]]:
    """Return the encoder that `make(pretrained)` builds, and the record of its weights. Raises UserError.

    `rename` maps the names of tensors in a file to those of the encoder.
    """
    if weights == "hub":
        repository = timm_repository(architecture)
        with downloading(repository):
            encoder = make(True)
        return encoder, hub_record(repository, encoder)
    encoder = make(False)
    return encoder, load_file(encoder, weights, rename)


def timm_repository(architecture: str) -> str:
    """Return the repository that timm downloads weights from; the architecture's name where there is none."""
    config = timm.get_pretrained_cfg(architecture)
    return (config and config.hf_hub_id) or architecture


def load_file(
    encoder: nn.Module,
    weights: Path | Literal["none"],
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
) -> dict[str, str]:
    """Load a file of tensors, if one is given, and return its record. Raises UserError."""
    if weights == "none":
        return _supervised.weights_record("none")
    path = Path(weights)
    _supervised.load_encoder(encoder, rename(_supervised.read_weights(path)), str(path))
    return _supervised.weights_record("file", path)


def about(method: str, params: Any, record: Mapping[str, str]) -> dict[str, Any]:
    """Return method, parameters and initial weights, without a path of this machine."""
    values = params.model_dump(mode="json") | {"weights": record["source"]}
    return {"method": method, "params": values, "weights": record}
