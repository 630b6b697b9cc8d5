"""twinsynth import: a generator or a segmenter from one checkpoint in the layout of the method's authors."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.cli.verbs.export import add_checkpoint, integer
from pipeline.core.errors import UserError

EXAMPLES = {
    "ldm": "twinsynth import ldm merged_pytorch_model.pth --base outputs/polyps/base"
    " --generator outputs/polyps/generators/siamese",
    "dermosegdiff": "twinsynth import dermosegdiff dsd_i01_best.pth --to imported/dermosegdiff_isic",
}
ABOUT = {
    "ldm": "write the base and the generator of one checkpoint of the authors' layout into two new folders",
    "dermosegdiff": "write the segmenter of a checkpoint of DermoSegDiff's authors into a new folder, for predict",
}
NUMBERS = (  # flag, lowest, highest, default, help
    ("--size", 8, 4096, 128, "pixels to which images are squashed"),
    ("--samples", 1, 1000, 9, "masks that are averaged for one prediction"),
    ("--steps", 1, 250, 250, "steps of the sampler"),
)


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers, "import", "read a generator or a segmenter from a checkpoint of other programs", *EXAMPLES.values()
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, add_arguments in (("ldm", add_checkpoint), ("dermosegdiff", _add_segmenter)):
        checkpoint = declare(kinds, kind, ABOUT[kind], EXAMPLES[kind])
        add_arguments(checkpoint)
        add_json(checkpoint)


def _add_segmenter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the checkpoint: .pth, .pt or .safetensors")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="new folder of the segmenter")
    for flag, low, high, default, about in NUMBERS:
        parser.add_argument(flag, type=integer(low, high), default=default, help=f"{about} (default: {default})")
    about = "ddpm: the paper's; ddim: clips each mask to [-1, 1], for fewer steps (default: ddpm)"
    parser.add_argument("--sampler", choices=("ddpm", "ddim"), default="ddpm", help=about)


def run(arguments: argparse.Namespace) -> int:
    """Write the folders. Raises UserError where one of them holds something or the file is no such checkpoint."""
    folders = [arguments.base, arguments.generator] if arguments.kind == "ldm" else [arguments.to]
    for folder in folders:
        if folder.is_file():
            raise UserError(f"{folder} is a file; name a new folder")
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; name a new folder, or remove this one first")
    if arguments.kind == "ldm":
        from pipeline.deploy.ldm_generator import import_checkpoint

        import_checkpoint(arguments.file, *folders)
    else:
        _import_segmenter(arguments)
    if arguments.json:
        tell_json({"kind": arguments.kind, "written": folders})
    else:
        tell("\n".join(map(str, folders)))
    return 0


def _import_segmenter(arguments: argparse.Namespace) -> None:
    from pipeline.deploy.dermosegdiff_import import Sampling, import_checkpoint

    sampling = Sampling(arguments.size, arguments.samples, arguments.steps, arguments.sampler)
    import_checkpoint(arguments.file, arguments.to, sampling)
