"""The weights of every feature extractor: which files are here, which are missing, and fetching those."""

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
    """Whether the weights of one extractor are on this machine."""

    extractor: str
    state: Literal["packaged", "present", "fetched", "missing", "wrong"]
    about: str = ""  # where the file lies, or why it is missing or wrong
    published: Weights | None = None


def weights_states(overrides: Mapping[str, WeightFile], fetch: bool = True) -> Iterator[WeightsState]:
    """Yield the state of one extractor after the other, as it becomes known.

    `overrides` is `score.weights` of params.yaml; `fetch` downloads missing files into weights/.
    """
    for name in plugins.names("features"):
        published = plugins.load("features", name).WEIGHTS
        yield WeightsState(name, "packaged") if published is None else _state(name, published, overrides, fetch)


def _state(name: str, published: Weights, overrides: Mapping[str, WeightFile], fetch: bool) -> WeightsState:
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
    """Yield the lines that tell users about one extractor."""
    if state.published is None:
        yield f"{state.extractor}: comes with its package"
        return
    yield f"{state.extractor}: {state.published.file}"
    yield f"  from     {state.published.source}"
    yield f"  licence  {state.published.licence}"
    yield f"  {state.state:<9}{state.about}"
