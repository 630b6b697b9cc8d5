"""twinsynth export: image sets for other programs, generators for diffusers or the layout of the method's authors."""

import argparse
from typing import Any

from pipeline.cli._telling import declare, tell
from pipeline.commands import export_generator, ldm
from pipeline.exports import __main__ as sets


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
    sets.add_arguments(declare(kinds, "set", about[0], examples[0]))
    export_generator.add_arguments(declare(kinds, "generator", about[1], examples[1]))
    ldm.add_arguments(declare(kinds, "ldm", "a generator as one checkpoint of the authors' layout", examples[2]))


def run(arguments: argparse.Namespace) -> int:
    """Writes one export. Raises UserError."""
    if arguments.kind == "set":
        sets.export(arguments)
    elif arguments.kind == "generator":
        export_generator.run(arguments.name, arguments.to)
    else:
        ldm.run("export", arguments.file, arguments.base, arguments.generator)
        tell(str(arguments.file))
    return 0
