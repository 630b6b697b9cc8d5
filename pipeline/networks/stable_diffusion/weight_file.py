"""Weights in one file, read without running code from it: safetensors, or torch's own format with weights only."""

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.core import files
from pipeline.core.errors import UserError

PICKLED = (".ckpt", ".pt", ".pth", ".bin")
SUFFIXES = (".safetensors", *PICKLED)
Shapes = dict[str, tuple[int, ...]]
# What trainers save beside the weights, a class and a number: replaced by placeholders, so that reading goes on.
IGNORED_CLASSES = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)


class _Ignored:
    """A placeholder for an object that trainers save beside the weights."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def shapes(path: Path) -> Shapes:
    """Return the shape of every tensor in a file. Raises UserError where it is damaged or not a file of weights."""
    if path.suffix == ".safetensors":
        with _reading(path), safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    return {key: tuple(value.shape) for key, value in _unpickled(path).items()}


def is_float32_safetensors(path: Path) -> bool:
    """Whether a file is safetensors with all floating-point weights in 32 bits. Raises UserError as `shapes`."""
    if path.suffix != ".safetensors":
        return False
    with _reading(path), safe_open(path, framework="pt") as file:
        kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    return not kinds & {"F16", "BF16", "F64"}


def read(path: Path, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Tensor]:
    """Read the tensors with a wanted name, on the CPU. Raises UserError as `shapes`."""
    if path.suffix == ".safetensors":
        with _reading(path), safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if wanted(key)}  # noqa: SIM118
    return {key: value for key, value in _unpickled(path).items() if wanted(key)}


def write(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write safetensors, or torch's format with the weights under `state_dict`, by the suffix; all or nothing.

    Raises UserError where the suffix is neither.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: the file's suffix must be one of {', '.join(SUFFIXES)}")
    contiguous = {key: value.contiguous() for key, value in weights.items()}
    with files.writing_to(path), files.replacing(path) as temporary:
        if path.suffix == ".safetensors":
            save_file(contiguous, temporary, metadata={"format": "pt"})
        else:
            with temporary.open("wb") as file:  # the path would stand in it
                torch.save({"state_dict": contiguous}, file)


def float32(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert floating-point weights to 32 bits and leave the others unchanged."""
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}


def load(path: Path, mapped: bool = False) -> Any:
    """Load a file of torch's own format: tensors and plain values; no other object is created, no code is run.

    Raises ValueError where its parts are compressed, which torch never does, and whatever a damaged file raises.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("its parts are compressed; they could unfold to any size")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def content(path: Path) -> Any:
    """Return what a file of torch's own format holds, as `load`, with placeholders for IGNORED_CLASSES.

    Raises UserError as `shapes`.
    """
    mapped = zipfile.is_zipfile(path)  # the format before torch 1.6 cannot be mapped
    beside: Sequence[Any] = [(_Ignored, name) for name in IGNORED_CLASSES]
    with _reading(path), torch.serialization.safe_globals([*beside, *_number_types()]):
        return load(path, mapped)


def _unpickled(path: Path) -> dict[str, Tensor]:
    held = content(path)
    while isinstance(held, Mapping) and isinstance(held.get("state_dict"), Mapping):
        held = held["state_dict"]
    tensors = {k: v for k, v in held.items() if isinstance(v, Tensor)} if isinstance(held, Mapping) else {}
    if not tensors:
        raise UserError(f"{path} holds no table of weights")
    return tensors


def _number_types() -> list[Any]:
    """Return placeholders for numpy's dtype classes, which pickled numbers refer to."""
    return [(_Ignored, f"numpy.dtypes.{name}DType") for name in ("Float32", "Float64", "Int64")]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise UserError for whatever reading a missing, damaged or foreign file raises."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what a damaged file raises is up to pickle
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"{path} holds an object of {named.group(1)} beside weights; it is not read, because making it could"
                " run code: use the .safetensors file of this model"
            ) from error
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        size = path.stat().st_size
        raise UserError(
            f"{path} ({size:,} bytes) is truncated or not a file of weights ({reason}): download it again"
        ) from error
