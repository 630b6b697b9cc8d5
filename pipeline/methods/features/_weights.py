"""Loading of weight files into networks, without executing code in them."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.networks.stable_diffusion import weight_file


def read_tensors(file: Path, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, by the rest of their names, as float32. Raises UserError."""
    try:
        tensors = _safetensors(file, prefix) if file.suffix == ".safetensors" else _pickled(file, prefix)
    except Exception as error:  # what a damaged file raises is up to pickle
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{file} cannot be read as weights ({reason}); is it the published file?") from error
    return {name: tensor.float() for name, tensor in tensors.items()}


def _safetensors(file: Path, prefix: str) -> dict[str, Tensor]:
    with safe_open(file, framework="pt") as archive:
        names = [name for name in archive.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
        return {name.removeprefix(prefix): archive.get_tensor(name) for name in names}


def _pickled(file: Path, prefix: str) -> dict[str, Tensor]:
    tensors = weight_file.load(file)
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError("it holds no dictionary of tensors")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_state(network: nn.Module, weights: Mapping[str, Tensor], file: Path) -> None:
    """Load tensors into a network, which may be on the meta device; all must fit. Raises UserError."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    actual = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    faults = [
        f"{name} is {actual.get(name, 'missing')}, expected {expected.get(name, 'none')}"
        for name in sorted({*expected, *actual})
        if expected.get(name) != actual.get(name)
    ]
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise UserError(f"{file} does not hold the published weights: {faults[0]}{more}; get the official file")
    network.load_state_dict(dict(weights), assign=True)
    network.eval().requires_grad_(False)
