"""Weights of feature extractors: which files are here, which are missing, and fetching those."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.networks import pretrained
from pipeline.networks.pretrained import Weights
from pipeline.stages.score.params import WeightFile


@dataclass(frozen=True)
class WeightsState:
    """Whether the weights of one extractor, or of another part of a study, are on this machine."""

    extractor: str  # or the key of params.yaml that names the weights
    state: Literal["packaged", "present", "fetched", "missing", "wrong"]
    about: str = ""  # where the file lies, or why it is missing or wrong
    published: Weights | None = None


def weights_states(overrides: Mapping[str, WeightFile], fetch: bool = True) -> Iterator[WeightsState]:
    """Yield the state of one extractor after the other, as it becomes known.

    `overrides` is `score.weights` of params.yaml; `fetch` downloads missing files into weights/.
    """
    for name in plugins.names("features"):
        yield state_of(name, plugins.load("features", name).WEIGHTS, overrides, fetch)


def state_of(name: str, published: Weights | None, overrides: Mapping[str, WeightFile], fetch: bool) -> WeightsState:
    """Return the state of one published file, fetched where asked; None: it comes with a package."""
    if published is None:
        return WeightsState(name, "packaged")
    try:
        file = pretrained.present(name, published, overrides)
        if file is not None:
            return WeightsState(name, "present", str(file), published)
        if not fetch:
            return WeightsState(name, "missing", f"would lie in {published.place}", published)
        return WeightsState(name, "fetched", str(pretrained.fetch(name, published)), published)
    except pretrained.Unavailable as error:
        return WeightsState(name, "missing", str(error), published)
    except UserError as error:
        return WeightsState(name, "wrong", str(error), published)


def describe(state: WeightsState) -> Iterator[str]:
    """Yield the lines that tell users about one of them."""
    if state.published is None:
        told = "comes with its package" if state.state == "packaged" else f"{state.state}, {state.about}"
        yield f"{state.extractor}: {told}"
        return
    yield f"{state.extractor}: {state.published.file}"
    yield f"  from     {state.published.source}"
    if state.published.size is not None:
        yield f"  size     {state.published.size / 1e9:.1f} GB"
    if state.published.sha256 is not None:
        yield f"  sha256   {state.published.sha256}"
    yield f"  licence  {state.published.licence}"
    yield f"  {state.state:<9}{state.about}"
