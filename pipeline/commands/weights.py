"""List the weights of every feature extractor, what is here and what is missing, and fetch what can be had."""

import sys

from pipeline import commands, plugins, weights
from pipeline.errors import UserError
from pipeline.params import Params


def stage(params: Params) -> None:
    """Fetches missing files into weights/. Raises UserError at the end where a file has another hash."""
    faults = []
    for name in plugins.names("features"):
        published: weights.Weights | None = plugins.load("features", name).WEIGHTS
        if published is None:
            _tell(f"{name}: comes with its package")
            continue
        _tell(f"{name}: {published.file}\n  from     {published.source}\n  licence  {published.licence}")
        try:
            _tell(f"  {_state(name, published, params)}")
        except weights.Unavailable as error:
            _tell(f"  missing  {error}")
        except UserError as error:
            _tell(f"  wrong    {error}")
            faults.append(name)
    if faults:
        raise UserError(f"not usable as they are: {', '.join(faults)}")


def _state(name: str, published: weights.Weights, params: Params) -> str:
    there = weights.present(name, published, params.score.weights)
    if there is not None:
        return f"present  {there}"
    return f"fetched  {weights.fetch(name, published)}"


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    commands.run(stage, __doc__)
