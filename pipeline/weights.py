"""Weights of feature extractors: where a file may lie, what its hash must be, and where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.params import WeightFile


class Unavailable(UserError):
    """The weights are neither here nor to be had; the message says what to put where."""


@dataclass(frozen=True)
class Weights:
    """A published file of weights."""

    file: str  # official name
    source: str  # URL, or "hf:owner/repository" for that file in a repository of the hub
    sha256: str | None  # whole, or its first 8 digits where the publisher states no more; None: not stated
    licence: str


def find(extractor: str, published: Weights, configured: Mapping[str, WeightFile]) -> Path:
    """The checked file: the configured one, else weights/<file>, else the library's cache or download.

    Raises Unavailable where there is none, UserError where a file has another hash.
    """
    raise NotImplementedError
