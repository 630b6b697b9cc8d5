"""twinsynth export: image sets for other programs, generators for diffusers or the layout of the method's authors."""

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pipeline.cli.commands import export_generator, ldm
from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.methods.exports import __main__ as sets


def add(subparsers: Any) -> None:
    """Declares the verb."""
    examples = (
        "twinsynth export set nnunet --training-set siamese_x2 --out nnUNet_raw",
        "twinsynth export generator siamese --to exported/siamese",
        "twinsynth export ldm siamese.safetensors --base outputs/demo/base --generator outputs/demo/generators/siamese",
    )
    parser = declare(subparsers, "export", "write an image set or a generator in a format of other programs", *examples)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    about = ("an image set: nnU-Net, COCO, Parquet ...", "a generator as a diffusers folder with its model card")
    sets.add_arguments(added(declare(kinds, "set", about[0], examples[0])))
    export_generator.add_arguments(added(declare(kinds, "generator", about[1], examples[1])))
    ldm.add_arguments(added(declare(kinds, "ldm", "a generator as one checkpoint of the authors' layout", examples[2])))


def added(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser, with --json."""
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Writes one export. Raises UserError."""
    with redirect_stdout(sys.stderr if arguments.json else sys.stdout):
        written = _export(arguments)
    if arguments.json:
        tell_json({"kind": arguments.kind, "written": written})
    return 0


def _export(arguments: argparse.Namespace) -> Path:
    if arguments.kind == "set":
        sets.export(arguments)
        return arguments.out
    if arguments.kind == "generator":
        export_generator.run(arguments.name, arguments.to)
        return arguments.to
    ldm.run("export", arguments.file, arguments.base, arguments.generator)
    tell(str(arguments.file))
    return arguments.file
