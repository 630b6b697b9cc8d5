"""List the weights of every feature extractor, what is here and what is missing, and fetch what can be had."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.networks import pretrained
from pipeline.networks.pretrained import Weights
from pipeline.stages import command
from pipeline.study import Params


@dataclass(frozen=True)
class State:
    """What is known of one extractor's weights."""

    extractor: str
    state: Literal["packaged", "present", "fetched", "missing", "wrong"]
    about: str = ""  # where the file lies, or why there is none
    published: Weights | None = None


def stage(params: Params) -> None:
    """Fetches missing files into weights/. Raises UserError at the end where a file has another hash."""
    tell(states(params))


def states(params: Params, fetch: bool = True) -> Iterator[State]:
    """One extractor after the other; `fetch` downloads what is missing into weights/."""
    for name in plugins.names("features"):
        published = plugins.load("features", name).WEIGHTS
        yield State(name, "packaged") if published is None else _state(name, published, params, fetch)


def _state(name: str, published: Weights, params: Params, fetch: bool) -> State:
    try:
        there = pretrained.present(name, published, params.score.weights)
        if there is not None:
            return State(name, "present", str(there), published)
        if not fetch:
            return State(name, "missing", f"would lie in {published.place}", published)
        return State(name, "fetched", str(pretrained.fetch(name, published)), published)
    except pretrained.Unavailable as error:
        return State(name, "missing", str(error), published)
    except UserError as error:
        return State(name, "wrong", str(error), published)


def tell(found: Iterable[State]) -> None:
    """Prints every state as it comes. Raises UserError at the end where a file has another hash."""
    wrong = []
    for state in found:
        if state.published is None:
            _tell(f"{state.extractor}: comes with its package")
            continue
        _tell(f"{state.extractor}: {state.published.file}")
        _tell(f"  from     {state.published.source}\n  licence  {state.published.licence}")
        _tell(f"  {state.state:<9}{state.about}")
        wrong += [state.extractor] if state.state == "wrong" else []
    if wrong:
        raise UserError(f"not usable as they are: {', '.join(wrong)}")


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    command.run(stage, __doc__)
