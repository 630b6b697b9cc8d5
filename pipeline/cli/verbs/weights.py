"""twinsynth weights: which weights of the feature extractors are here, and fetching those that are missing."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.cli.extractor_weights import WeightsState


def add(subparsers: Any) -> None:
    """Declare the verb."""
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
    """List the weights, and fetch them unless told not to. Raises UserError where a file has another hash."""
    from pipeline.cli.extractor_weights import describe, weights_states
    from pipeline.study import load_params

    wrong, rows = [], []
    for state in weights_states(load_params().score.weights, fetch=not arguments.list):
        rows.append(_row(state))
        wrong += [state.extractor] if state.state == "wrong" else []
        if not arguments.json:
            tell("\n".join(describe(state)))
            sys.stdout.flush()
    if arguments.json:
        tell_json(rows)
        return 2 if wrong else 0
    if wrong:
        raise UserError(f"not usable as they are: {', '.join(wrong)}")
    return 0


def _row(state: "WeightsState") -> dict[str, Any]:
    row = {"extractor": state.extractor, "state": state.state, "about": state.about}
    if state.published is None:
        return row
    return row | {key: getattr(state.published, key) for key in ("file", "source", "sha256", "licence")}
