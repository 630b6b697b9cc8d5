"""Pretrained weights of feature extractors: where a file may lie, its expected hash, and its source."""

import os
import shutil
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.stages.score.params import WeightFile

FOLDER = Path("weights")
HUB = "hf:"  # a source on the model hub starts so
TIMEOUT = 60  # seconds without an answer


class Unavailable(UserError):
    """The weights are not present and cannot be downloaded; the message says what to put where."""


@dataclass(frozen=True)
class Weights:
    """A published file of weights."""

    file: str  # official name
    source: str  # URL, or "hf:owner/repository" for that file in a repository of the hub
    sha256: str | None  # whole, or its first 8 digits where the publisher states no more; None: not stated
    licence: str
    key: str | None = None  # of params.yaml that may name another file; None: score.weights.<extractor>.file
    size: float | None = None  # bytes, rounded; None: not stated

    @property
    def repository(self) -> str | None:
        """The repository on the hub; None: the source is a URL."""
        return self.source.removeprefix(HUB) if self.source.startswith(HUB) else None

    @property
    def place(self) -> Path:
        """Where to put it by hand: weights/<file>; from the hub, where names repeat, weights/<repository>/<file>."""
        return FOLDER / self.repository.rpartition("/")[2] / self.file if self.repository else FOLDER / self.file


def find(extractor: str, published: Weights, configured: Mapping[str, WeightFile]) -> Path:
    """Find the checked file: the configured one, else that in weights/, in the library's cache, or a download.

    Raises Unavailable where there is none, UserError where a file has another hash.
    """
    return present(extractor, published, configured) or _download(extractor, published)


def present(extractor: str, published: Weights, configured: Mapping[str, WeightFile]) -> Path | None:
    """Find the checked file as `find` does, without a download; None: not present. Raises UserError as `find`."""
    if extractor in configured:
        return _configured(extractor, published, configured[extractor])
    for path in (published.place, _cached(published)):
        if path is not None and path.is_file():
            return checked(path, published.sha256)
    return None


def fetch(extractor: str, published: Weights) -> Path:
    """Download the file to its place in the folder weights/. Raises as `find`."""
    _refuse_offline(extractor, published)
    try:
        if published.repository is not None:
            _from_hub(published.repository, published.file, published.place.parent)
            return checked(published.place, published.sha256)
        return _from_url(published, published.place)
    except _failures() as error:
        raise _unavailable(extractor, published, _reason(error)) from None


def checked(path: Path, sha256: str | None) -> Path:
    """Return the same path. Raises UserError where the file's hash does not start with `sha256`."""
    if sha256 is not None and not (actual := files.sha256(path)).startswith(sha256):
        raise UserError(
            f"{path}: the file's sha256 is {actual}, but {sha256} is expected; it is another file, or damaged: remove"
            " or replace it"
        )
    return path


def _configured(extractor: str, published: Weights, entry: WeightFile) -> Path:
    path = Path(entry.file)
    if not path.is_file():
        raise UserError(
            f"params.yaml: score.weights.{extractor}.file: there is no file {entry.file}; put {published.file} from"
            f" {published.source} there, or remove the entry"
        )
    return checked(path, entry.sha256 or published.sha256)


def _cached(published: Weights) -> Path | None:
    """Return where the library keeps its download; None: not downloaded."""
    if published.repository is None:
        return _checkpoints() / published.file
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(published.repository, published.file)
    return Path(path) if isinstance(path, str) else None


def _download(extractor: str, published: Weights) -> Path:
    _refuse_offline(extractor, published)
    try:
        if published.repository is not None:
            return checked(_from_hub(published.repository, published.file), published.sha256)
        return _from_url(published, _checkpoints() / published.file)
    except _failures() as error:
        raise _unavailable(extractor, published, _reason(error)) from None


def _refuse_offline(extractor: str, published: Weights) -> None:
    if offline():
        raise _unavailable(extractor, published, "HF_HUB_OFFLINE is set, so nothing is downloaded")


def offline() -> bool:
    """Return whether the user forbids downloads: HF_HUB_OFFLINE, in the environment or as the hub's library read it."""
    library = sys.modules.get("huggingface_hub.constants")
    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return asked or bool(library is not None and library.HF_HUB_OFFLINE)


def _from_hub(repository: str, file: str, folder: Path | None = None) -> Path:
    """Download into the hub's cache, or into a folder."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository, file, local_dir=folder))


def _from_url(published: Weights, path: Path) -> Path:
    """Download to `path`, completely and with the expected hash, or not at all."""
    with files.replacing(path) as temporary:
        with urllib.request.urlopen(published.source, timeout=TIMEOUT) as answer, temporary.open("wb") as file:
            shutil.copyfileobj(answer, file)
        actual = files.sha256(temporary)
        if not actual.startswith(published.sha256 or ""):
            raise OSError(f"what came has the sha256 {actual}, expected {published.sha256}")
    return path


def _checkpoints() -> Path:
    """Return where torch keeps its downloads (TORCH_HOME)."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _failures() -> tuple[type[Exception], ...]:
    """Return what a download may raise when the network or the disk fails."""
    from http.client import HTTPException

    from huggingface_hub.errors import HTTPError

    return OSError, HTTPException, HTTPError


def _reason(error: Exception) -> str:
    """Return the innermost cause, which names the network error."""
    cause = error.__cause__ or error
    return f"the download failed ({type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]})"


def _unavailable(extractor: str, published: Weights, reason: str) -> Unavailable:
    return Unavailable(
        f"{extractor} needs {published.file} from {published.source}: it is not here, and {reason}; put it at"
        f" {published.place.as_posix()}, or name it in params.yaml as"
        f" {published.key or f'score.weights.{extractor}.file'}"
    )
