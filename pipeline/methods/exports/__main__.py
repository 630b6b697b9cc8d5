"""Write an image set of a study in a format of other programs: a training set, a generator's images, or the real ones.

Formats: see docs/exports.md. A training set brings the real images for validation and test along; a generator's images
come alone.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.core.errors import UserError

NUMBERS = (  # flag, lowest, highest, default, what it is
    ("--folds", 2, 100, 5, "nnunet: folds of the cross-validation"),
    ("--seed", 0, 2**63 - 1, 0, "nnunet: of the folds"),
    ("--dataset-id", 1, 999, 501, "nnunet: XXX of DatasetXXX_Name"),
    ("--shard-size", 1, 10**6, 1000, "parquet, webdataset: pairs per file"),
)


def main(argv: list[str] | None = None) -> None:
    """Runs one export. A UserError ends the process with one message and status 2."""
    arguments = _parser().parse_args(argv)
    try:
        export(arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.methods.exports", description=__doc__)
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `export` reads; loads nothing."""
    formats = sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))
    parser.add_argument("format", metavar="FORMAT", help=", ".join(formats))
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--training-set", metavar="NAME", help="a folder of outputs/STUDY/training_sets")
    chosen.add_argument("--generator", metavar="NAME", help="a folder of outputs/STUDY/synthetic")
    chosen.add_argument("--real", action="store_true", help="the real images of all splits")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    parser.add_argument("--study", metavar="NAME", help="a folder of outputs (default: the study of params.yaml)")
    for flag, low, high, default, told in NUMBERS:
        parser.add_argument(flag, type=_whole(low, high), default=default, help=f"{told} (default: {default})")


def _whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number between two bounds, for argparse."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parse


def export(arguments: argparse.Namespace) -> None:
    """Writes one set. Raises UserError."""
    from pipeline.core import plugins

    plugins.source("exports", arguments.format)
    from pipeline.methods.exports import _sets
    from pipeline.methods.exports._pairs import Settings

    study = arguments.study or _study()
    if arguments.real:
        splits, name = _sets.real(study), "real"
    elif arguments.training_set is not None:
        splits, name = _sets.training_set(study, arguments.training_set), arguments.training_set
    else:
        splits, name = _sets.synthetic(study, arguments.generator), arguments.generator
    settings = Settings(f"{study}_{name}", arguments.seed, arguments.folds, arguments.dataset_id, arguments.shard_size)
    _sets.export(arguments.format, splits, arguments.out, settings)
    sys.stdout.write(f"{arguments.out}: {', '.join(f'{len(images)} {split}' for split, images in splits.items())}\n")


def _study() -> str:
    from pipeline.study import load_params

    return load_params().study


if __name__ == "__main__":
    main()
