"""Write a fine-tuned generator as a diffusers folder, with everything it needs and a model card.

Run it in the folder that holds params.yaml, after stage finetune.
"""

import argparse
import logging
import sys
from pathlib import Path

from pipeline.core.errors import UserError

EXAMPLE = "example: python -m pipeline.cli.commands.export_generator siamese --to exported/siamese"


def main(argv: list[str] | None = None) -> None:
    """Runs one export. A UserError ends the process with one message and status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.cli.commands.export_generator",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        run(arguments.name, arguments.to)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` takes."""
    parser.add_argument("name", metavar="NAME", help="a key of generators in params.yaml")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="a new folder, or an older export of the same generator"
    )


def run(name: str, target: Path) -> None:
    """Writes one generator. Raises UserError."""
    from pipeline.study import load_params

    params = load_params()
    from pipeline.deploy.generator_export import export  # here, for it loads torch

    export(params, name, target)
    sys.stdout.write(f"{target}: load it with StableDiffusionControlNetPipeline; README.md shows how\n")


if __name__ == "__main__":
    main()
