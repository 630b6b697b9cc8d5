"""Read or write a generator as one checkpoint in the layout of Siamese-Diffusion's authors; docs/ldm_checkpoints.md."""

import argparse
import logging
import sys
from pathlib import Path

from pipeline.core.errors import UserError


def main(argv: list[str] | None = None) -> None:
    """Runs `import FILE --base FOLDER --generator FOLDER`, or `export` with the same arguments.

    A UserError ends the process with one message and status 2.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m pipeline.cli.commands.ldm", description=__doc__)
    parser.add_argument("direction", choices=("import", "export"))
    add_arguments(parser)
    chosen = parser.parse_args(argv)
    try:
        run(chosen.direction, chosen.file, chosen.base, chosen.generator)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` takes beside the direction."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the checkpoint: .safetensors, .ckpt or .pth")
    parser.add_argument(
        "--base", type=Path, metavar="DIR", required=True, help="folder of the base, as outputs/STUDY/base"
    )
    parser.add_argument(
        "--generator", type=Path, metavar="DIR", required=True, help="as outputs/STUDY/generators/siamese"
    )


def run(direction: str, file: Path, base: Path, generator: Path) -> None:
    """Converts one checkpoint. Raises UserError."""
    from pipeline.deploy import ldm_generator

    if direction == "export":
        ldm_generator.export_checkpoint(base, generator, file)
        return
    for folder in (base, generator):
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; name a new folder, or remove it first")
    ldm_generator.import_checkpoint(file, base, generator)


if __name__ == "__main__":
    main()
