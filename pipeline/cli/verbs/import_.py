"""twinsynth import: a generator from one checkpoint in the layout of the method's authors."""

import argparse
from typing import Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.cli.verbs.export import add_checkpoint
from pipeline.core.errors import UserError

EXAMPLE = (
    "twinsynth import ldm merged_pytorch_model.pth --base outputs/polyps/base"
    " --generator outputs/polyps/generators/siamese"
)


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(subparsers, "import", "read a generator from a checkpoint of other programs", EXAMPLE)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    about = "write the base and the generator of one checkpoint of the authors' layout into two new folders"
    checkpoint = declare(kinds, "ldm", about, EXAMPLE)
    add_checkpoint(checkpoint)
    add_json(checkpoint)


def run(arguments: argparse.Namespace) -> int:
    """Write the two folders. Raises UserError where one of them holds something or the file is no such checkpoint."""
    from pipeline.deploy.ldm_generator import import_checkpoint

    folders = [arguments.base, arguments.generator]
    for folder in folders:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; name a new folder, or remove this one first")
    import_checkpoint(arguments.file, *folders)
    if arguments.json:
        tell_json({"kind": arguments.kind, "written": folders})
    else:
        tell("\n".join(map(str, folders)))
    return 0
