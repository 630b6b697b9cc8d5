"""twinsynth release: a card of what is released, with the hashes of the files that it describes, and its check."""

import argparse
from dataclasses import asdict
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
        if arguments.images or arguments.terms is not None or arguments.output is not None:
            raise UserError("--images, --terms and --output write a card; leave them out with --check")
        return _check(arguments)
    if arguments.files is not None:
        raise UserError("--files says where the files of a card lie; use it with --check")
    if arguments.terms is not None and not arguments.terms.strip():
        raise UserError("--terms is empty; give the terms of use, such as CC-BY-4.0, or leave it out")
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
    changed = [one for one in reasons() if one.kind in ("parameter", "input", "new") and one.stage != LAST]
    if changed:
        first = changed[0]
        raise UserError(
            f"the results of {first.stage} do not belong to the current study ({first.name}: {first.change}), so a card"
            " of them would be wrong; run dvc repro"
        )


def _check(arguments: argparse.Namespace) -> int:
    from pipeline.data.decoding import display_path
    from pipeline.deploy.release.hashes import check

    root = arguments.files or Path()
    if not root.is_dir():
        raise UserError(f"--files: there is no folder {root}; name the one in which the files of the card lie")
    checked = check(arguments.check, root)
    if arguments.json:
        tell_json({"card": arguments.check, **asdict(checked)})
        return 1 if checked.problems else 0
    images = f" and {checked.images} files of images and masks" if checked.images else ""
    for one in checked.problems:
        tell(f"{display_path(Path(one.path), Path())}: {one.problem}")
    if checked.problems:
        total, are = checked.files + checked.images, "are" if len(checked.problems) > 1 else "is"
        tell(f"{len(checked.problems)} of {total} files {are} missing or different")
    else:
        tell(f"{arguments.check}: {checked.files} files{images} are those that the card describes")
    tell(f"SHA-256 of the card: {checked.sha256}")
    return 1 if checked.problems else 0
