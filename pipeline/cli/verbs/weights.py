"""twinsynth weights: which weights of all extractors, or of a study, are here, and fetching those that are missing."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.cli.verbs.study import study_file
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.cli.extractor_weights import WeightsState


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "weights",
        "list the weights of every feature extractor, or all that a study needs, and download what is missing",
        "twinsynth weights --list",
        "twinsynth weights",
        "twinsynth weights --study polyps            # its base, encoders and extractors",
    )
    parser.add_argument(
        "--study", help="everything that this study needs, including the base: a file, or a name in configs/studies"
    )
    parser.add_argument("--list", action="store_true", help="only list the weights and download nothing")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the weights, and fetch them unless told not to. Raises UserError where a file has another hash."""
    from pipeline.cli.extractor_weights import describe

    wrong, missing, rows = [], [], []
    for state in _states(arguments.study, fetch=not arguments.list):
        rows.append(_row(state))
        wrong += [state.extractor] if state.state == "wrong" else []
        missing += [state.extractor] if state.state == "missing" and arguments.study else []
        if not arguments.json:
            tell("\n".join(describe(state)))
            sys.stdout.flush()
    if arguments.json:
        tell_json(rows)
        return 2 if wrong else int(bool(missing))
    if wrong:
        raise UserError(f"these weights cannot be used as they are: {', '.join(wrong)}")
    if missing and not arguments.list:
        raise UserError(f"still missing: {', '.join(missing)}; the lines above say what to put where")
    return int(bool(missing))


def _states(study: str | None, fetch: bool) -> Iterator["WeightsState"]:
    from pipeline.study import load_params

    if study is None:
        from pipeline.cli.extractor_weights import weights_states

        return weights_states(load_params().score.weights, fetch)
    from pipeline.cli.study_weights import study_states

    return study_states(load_params(study_file(study)), fetch)


def _row(state: "WeightsState") -> dict[str, Any]:
    row = {"extractor": state.extractor, "state": state.state, "about": state.about}
    if state.published is None:
        return row
    return row | {key: getattr(state.published, key) for key in ("file", "source", "sha256", "licence", "size")}
