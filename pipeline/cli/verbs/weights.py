"""twinsynth weights: what is here of the feature extractors' weights, and fetching what is not."""

import argparse
from typing import Any

from pipeline.cli.output import add_json, declare, tell_json


def add(subparsers: Any) -> None:
    """Declares the verb."""
    parser = declare(
        subparsers,
        "weights",
        "list the weights of every feature extractor and fetch what is missing into weights/",
        "twinsynth weights --list",
        "twinsynth weights",
    )
    parser.add_argument("--list", action="store_true", help="fetch nothing")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Lists, and fetches where asked to. Raises UserError where a file has another hash."""
    from pipeline.cli.commands import weights
    from pipeline.study import load_params

    found = weights.states(load_params(), fetch=not arguments.list)
    if not arguments.json:
        weights.tell(found)
        return 0
    rows = [_row(state) for state in found]
    tell_json(rows)
    return 2 if any(row["state"] == "wrong" for row in rows) else 0


def _row(state: Any) -> dict[str, Any]:
    row = {"extractor": state.extractor, "state": state.state, "about": state.about}
    if state.published is None:
        return row
    return row | {key: getattr(state.published, key) for key in ("file", "source", "sha256", "licence")}
