"""twinsynth export: image sets for other programs, generators for diffusers or in the layout of their authors."""

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pipeline.cli.output import add_json, declare, tell, tell_json

EXAMPLES = {
    "set": "twinsynth export set nnunet --training-set siamese_x2 --out nnUNet_raw",
    "generator": "twinsynth export generator siamese --to exported/siamese",
    "ldm": "twinsynth export ldm siamese.safetensors --base outputs/demo/base"
    " --generator outputs/demo/generators/siamese",
}
ABOUT = {
    "set": "export an image set to nnU-Net, COCO, Parquet or another format",
    "generator": "export a generator as a diffusers folder with a model card",
    "ldm": "export a generator as one checkpoint in the authors' layout",
}
FORMATS = Path(__file__).parents[2] / "methods" / "exports"
NUMBERS = (  # flag, lowest, highest, default, help
    ("--folds", 2, 100, 5, "nnunet: folds of the cross-validation"),
    ("--seed", 0, 2**63 - 1, 0, "nnunet: seed of the folds"),
    ("--dataset-id", 1, 999, 501, "nnunet: XXX of DatasetXXX_Name"),
    ("--shard-size", 1, 10**6, 1000, "parquet, webdataset: pairs per file"),
)


def add(subparsers: Any) -> None:
    """Declare the verb."""
    about = "write an image set or a generator in a format of other programs"
    kinds = declare(subparsers, "export", about, *EXAMPLES.values()).add_subparsers(
        dest="kind", metavar="KIND", required=True
    )
    for kind, add_arguments in (("set", _add_set), ("generator", _add_generator), ("ldm", add_checkpoint)):
        parser = declare(kinds, kind, ABOUT[kind], EXAMPLES[kind])
        add_arguments(parser)
        add_json(parser)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint, the base and the generator of a conversion to or from the authors' layout."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the checkpoint: .safetensors, .ckpt or .pth")
    parser.add_argument(
        "--base", type=Path, metavar="DIR", required=True, help="folder of the base, such as outputs/STUDY/base"
    )
    parser.add_argument(
        "--generator",
        type=Path,
        metavar="DIR",
        required=True,
        help="folder of the generator, such as outputs/STUDY/generators/siamese",
    )


def _add_set(parser: argparse.ArgumentParser) -> None:
    formats = sorted(file.stem for file in FORMATS.glob("[!_]*.py"))
    parser.add_argument("format", metavar="FORMAT", help=", ".join(formats))
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--training-set", metavar="NAME", help="a folder of outputs/STUDY/training_sets")
    images.add_argument("--generator", metavar="NAME", help="a folder of outputs/STUDY/synthetic")
    images.add_argument("--real", action="store_true", help="the real images of all splits")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write, which must not exist yet"
    )
    parser.add_argument("--study", metavar="NAME", help="a folder of outputs (default: the study of params.yaml)")
    for flag, low, high, default, about in NUMBERS:
        parser.add_argument(flag, type=integer(low, high), default=default, help=f"{about} (default: {default})")


def _add_generator(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a key of generators in params.yaml")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="a new folder, or an older export of the same generator"
    )


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return a converter of a whole number between two bounds, for argparse."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parse


def run(arguments: argparse.Namespace) -> int:
    """Write one export. Raises UserError."""
    exporters = {"set": _export_set, "generator": _export_generator, "ldm": _export_checkpoint}
    with redirect_stdout(sys.stderr if arguments.json else sys.stdout):
        written = exporters[arguments.kind](arguments)
    if arguments.json:
        tell_json({"kind": arguments.kind, "written": written})
    return 0


def _export_set(arguments: argparse.Namespace) -> Path:
    from pipeline.core import plugins

    plugins.source("exports", arguments.format)  # raises UserError before anything heavy is loaded
    from pipeline.methods.exports import _export
    from pipeline.methods.exports._format import ExportOptions

    study = arguments.study or _study()
    if arguments.real:
        splits, name = _export.real_splits(study), "real"
    elif arguments.training_set is not None:
        splits, name = _export.training_set_splits(study, arguments.training_set), arguments.training_set
    else:
        splits, name = _export.synthetic_splits(study, arguments.generator), arguments.generator
    options = ExportOptions(
        f"{study}_{name}", arguments.seed, arguments.folds, arguments.dataset_id, arguments.shard_size
    )
    _export.export(arguments.format, splits, arguments.out, options)
    tell(f"{arguments.out}: {', '.join(f'{len(images)} {split}' for split, images in splits.items())}")
    return arguments.out


def _study() -> str:
    from pipeline.study import load_params

    return load_params().study


def _export_generator(arguments: argparse.Namespace) -> Path:
    from pipeline.study import load_params

    params = load_params()  # before torch is loaded
    from pipeline.deploy.generator_export import export

    export(params, arguments.name, arguments.to)
    tell(f"{arguments.to}: load it with diffusers; README.md shows how")
    return arguments.to


def _export_checkpoint(arguments: argparse.Namespace) -> Path:
    from pipeline.deploy.ldm_generator import export_checkpoint

    export_checkpoint(arguments.base, arguments.generator, arguments.file)
    tell(str(arguments.file))
    return arguments.file
