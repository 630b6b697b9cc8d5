"""twinsynth release: a card of what is released, with the hashes of the files that it describes, and its check."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.core.errors import UserError

RELEASED = Path("released")


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "release",
        "write a card of what is known and not known of a generator or its images, or check one",
        "twinsynth release siamese --terms CC-BY-4.0",
        "twinsynth release siamese --images --output released/siamese_images",
        "twinsynth release --check released/siamese",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="a key of generators in params.yaml")
    parser.add_argument("--images", action="store_true", help="release the images of the generator, not its weights")
    parser.add_argument("--terms", metavar="TEXT", help="terms of use of the training images")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder to write, which must not exist yet (default: released/NAME, with --images released/NAME_images)",
    )
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="compare the card in this folder with the files")
    parser.add_argument(
        "--files",
        type=Path,
        metavar="DIR",
        help="with --check: folder in which the listed files lie (default: the current folder)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write or check a card; the exit status is 1 where a file is missing or differs. Raises UserError."""
    if (arguments.check is None) == (arguments.name is None):
        raise UserError("name either a generator of params.yaml or a card to check, as in --check released/siamese")
    if arguments.check is not None:
        if arguments.images or arguments.terms or arguments.output:
            raise UserError("--images, --terms and --output write a card; leave them out with --check")
        return _check(arguments)
    if arguments.files is not None:
        raise UserError("--files says where the files of a card lie; use it with --check")
    return _write(arguments)


def _write(arguments: argparse.Namespace) -> int:
    from pipeline.study import load_params

    params = load_params()  # before torch is loaded
    _refuse_outdated()
    from pipeline.deploy.release.finished import FinishedEntry
    from pipeline.deploy.release.hashes import CARD, PAGE
    from pipeline.deploy.release.release import write_release

    kind = "images" if arguments.images else "generator"
    target = arguments.output or RELEASED / f"{arguments.name}{'_images' if arguments.images else ''}"
    sha256 = write_release(FinishedEntry(params, arguments.name), kind, arguments.terms, target)
    if arguments.json:
        tell_json({"kind": kind, "written": target, "sha256": sha256})
    else:
        tell(f"{target / PAGE}\n{target / CARD}\nSHA-256 of the card: {sha256}")
    return 0


def _refuse_outdated() -> None:
    """Raise UserError where parameters or inputs have changed since a stage ran; without dvc.lock this is not known."""
    from pipeline.cli.doctor.dvc_state import LOCK
    from pipeline.cli.rerun_reasons import reasons
    from pipeline.stages.report.stage_outputs import LAST

    if not LOCK.is_file():
        return
    changed = [one for one in reasons() if one.kind in ("parameter", "input") and one.stage != LAST]
    if changed:
        first = changed[0]
        raise UserError(
            f"the results of {first.stage} do not belong to the current study ({first.kind} {first.name}:"
            f" {first.change}), so a card of them would be wrong; run dvc repro"
        )


def _check(arguments: argparse.Namespace) -> int:
    from pipeline.deploy.release.hashes import check

    checked = check(arguments.check, arguments.files or Path())
    if arguments.json:
        problems = [{"path": one.path, "problem": one.problem} for one in checked.problems]
        tell_json({"card": arguments.check, "files": checked.files, "images": checked.images, "problems": problems})
    else:
        images = f" and {checked.images} files of images and masks" if checked.images else ""
        for one in checked.problems:
            tell(f"{one.path}: {one.problem}")
        count = len(checked.problems)
        tell(
            f"{count} of {checked.files} files{images} {'are' if count > 1 else 'is'} missing or different"
            if count
            else f"{arguments.check}: {checked.files} files{images} are those that the card describes"
        )
    return 1 if checked.problems else 0
