"""twinsynth rate: ratings of real and synthetic images by clinicians who do not know which is which."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pipeline.cli.output import add_json, declare, positive, tell, tell_json
from pipeline.core.errors import UserError

EXAMPLES = {
    "serve": "twinsynth rate serve --rater Ann --rater Ben",
    "static": "twinsynth rate static --rater Ann --to for_raters",
    "import": "twinsynth rate import ratings_Ann.csv",
    "export": "twinsynth rate export",
}


def add(subparsers: Any) -> None:
    """Declare the verb."""
    about = "let clinicians rate images, real and synthetic, without knowing which is which"
    parser = declare(subparsers, "rate", about, *EXAMPLES.values())
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    serving = declare(actions, "serve", "serve the rating page to this computer's browser", EXAMPLES["serve"])
    serving.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this computer alone)")
    serving.add_argument("--port", type=int, default=8765, help="port to listen at, 0 for any (default: 8765)")
    serving.add_argument("--token", help="secret that the page's link must contain; with another --host, one is made")
    static = declare(
        actions, "static", "write one HTML file per rater, to be used without a server", EXAMPLES["static"]
    )
    static.add_argument(
        "--to", type=Path, default=Path("for_raters"), metavar="DIR", help="folder to write to (default: for_raters)"
    )
    for action, required in ((serving, False), (static, True)):
        _add_images(action)
        action.add_argument(
            "--rater",
            action="append",
            default=[],
            required=required,
            metavar="NAME",
            help="name of a rater; repeatable",
        )
    importing = declare(actions, "import", "import files that static pages saved", EXAMPLES["import"])
    importing.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a CSV file that a static page saved")
    importing.add_argument("--replace", action="store_true", help="withdraw older ratings of the same images")
    exporting = declare(
        actions, "export", "write all ratings as the CSV that the stage score reads", EXAMPLES["export"]
    )
    exporting.add_argument("--to", type=Path, metavar="FILE", help="file to write (default: ratings/STUDY/ratings.csv)")
    for action in (static, importing, exporting):
        add_json(action)


def run(arguments: argparse.Namespace) -> int:
    """Run one action in the folder of params.yaml. Raises UserError."""
    import sqlite3

    actions = {"serve": _serve, "static": _static, "import": _import, "export": _export}
    try:
        return actions[arguments.action](arguments)
    except sqlite3.Error as error:
        raise UserError(
            f"the database of ratings cannot be used at the moment ({error}); nothing was lost, so try again"
        ) from None


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=positive, metavar="N", help="images of each generator, and real ones (default: 20)"
    )
    parser.add_argument(
        "--generator",
        action="append",
        default=[],
        metavar="NAME",
        help="only this generator; repeatable (default: all)",
    )


def _begun(arguments: argparse.Namespace) -> Any:
    from pipeline.study import load_params
    from pipeline.web.rating.study_database import begin_study

    return begin_study(load_params(), arguments.images, arguments.generator)


def _serve(arguments: argparse.Namespace) -> int:
    from pipeline.web.rating import study_database
    from pipeline.web.rating.server import Address, serve

    database = _begun(arguments)
    counts = ", ".join(f"{count} {arm}" for arm, count in study_database.image_counts(database).items())
    tell(f"{database.path}: {counts}")
    address = Address(
        arguments.host, arguments.port, arguments.token, study_database.rater_keys(database, arguments.rater)
    )
    serve(database, address, _tell_at_once)
    tell("next: twinsynth rate export, then dvc repro")
    return 0


def _static(arguments: argparse.Namespace) -> int:
    from pipeline.web.rating.static_pages import write_pages

    written = write_pages(_begun(arguments), arguments.rater, arguments.to)
    if arguments.json:
        tell_json({"files": written})
        return 0
    for path in written:
        tell(f"{path}: send it to the rater")
    tell("next, with the files that come back: twinsynth rate import FILE ...")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from pipeline.study import load_params
    from pipeline.web.rating.ratings_csv import import_ratings
    from pipeline.web.rating.study_database import open_database

    database = open_database(load_params().study)
    with database.writing() as connection:
        new = {str(path): import_ratings(connection, path, replace=arguments.replace) for path in arguments.files}
    if arguments.json:
        tell_json({"new": new})
        return 0
    for path, count in new.items():
        tell(f"{path}: {count} new ratings")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from pipeline.core import paths
    from pipeline.study import load_params
    from pipeline.web.rating import ratings_csv, study_database

    params = load_params()
    database = study_database.open_database(params.study)
    if arms := study_database.changed_arms(database, params.study, params.generators):
        sys.stderr.write(f"warning: the images of {', '.join(arms)} have changed since they were rated\n")
    target = arguments.to or paths.ratings(params.study) / "ratings.csv"
    with database.reading() as connection:
        count = ratings_csv.export_ratings(connection, target)
    if "mos" not in params.score.metrics:
        sys.stderr.write(
            "warning: score.metrics in params.yaml lacks mos; the stage score reads ratings once it is there\n"
        )
    if arguments.json:
        tell_json({"file": target, "ratings": count})
    else:
        tell(f"{target}: {count} ratings; next: dvc repro, for the stage score reads them")
    return 0


def _tell_at_once(line: str) -> None:
    tell(line)
    sys.stdout.flush()
