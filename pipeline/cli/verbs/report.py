"""twinsynth report: the place of the report on the study in params.yaml, and the stages it still needs."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.core.errors import UserError


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "report",
        "write the study's report if it is missing, print its path, and open it",
        "twinsynth report --open",
        "twinsynth report --again                                          # after a change of its settings",
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    parser.add_argument("--again", action="store_true", help="write the report again even if it exists")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the report where it is missing and print its place. Raises UserError naming the stages that it needs."""
    from pipeline.core import paths
    from pipeline.stages.report import stage_outputs
    from pipeline.study import load_params

    params = load_params()
    page = paths.report(params.study) / "index.html"
    exists = page.is_file()
    missing = [stage for stage in stage_outputs.unfinished_stages(params) if stage != stage_outputs.LAST]
    if missing and not exists:
        return _unfinished(arguments, params.study, missing)
    written = not missing and (arguments.again or not exists)
    if written:
        from pipeline.stages.report.page import write_report

        try:
            write_report(params)
        except KeyError as key:  # what this version's report shows and an older version's stages did not write
            raise UserError(f"the outputs were made by an older version ({key} is missing); run dvc repro") from None
    else:
        from pipeline.stages.report.index import write_index

        write_index()
    _tell(arguments, params.study, page, missing, written)
    if arguments.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    return 0


def _unfinished(arguments: argparse.Namespace, study: str, missing: list[str]) -> int:
    if not arguments.json:
        raise UserError(
            f"there is no report of the study {study} yet; run dvc repro. These stages have not run: {_few(missing)}"
        )
    tell_json({"study": study, "report": None, "written": False, "missing": missing})
    return 2


def _tell(arguments: argparse.Namespace, study: str, page: Path, missing: list[str], written: bool) -> None:
    if arguments.json:
        tell_json({"study": study, "report": page, "written": written, "missing": missing})
        return
    tell(f"{'written: ' if written else ''}{page}")
    if missing:
        tell(f"it is older than the outputs: these stages have not run again: {_few(missing)}")


def _few(stages: list[str]) -> str:
    return ", ".join(stages[:8]) + (f" and {len(stages) - 8} more" if len(stages) > 8 else "")
