"""Write masks and overlays of a folder of pictures or volumes with a segmenter that a study has kept (segment.keep)."""

import argparse
import sys
from pathlib import Path

from pipeline.core.errors import UserError

EXAMPLE = (
    "example: python -m pipeline.cli.commands.predict"
    " --segmenter outputs/kvasir/segmentation/unet/kept/siamese_x1/seed_0 --images new_images --to predicted"
)


def main(argv: list[str] | None = None) -> None:
    """Runs one prediction. A UserError ends the process with one message and status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.cli.commands.predict",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    from pipeline.deploy.prediction import predict_folder  # here, for it loads torch

    try:
        count = predict_folder(arguments.segmenter, arguments.images, arguments.to)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    sys.stdout.write(f"{told(count, arguments.to)}\n")


def told(count: int, target: Path) -> str:
    """What was written."""
    return f"{target}: masks/ and overlays/ of {count} images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The segmenter, the images, the target."""
    parser.add_argument("--segmenter", type=Path, required=True, metavar="FOLDER", help="a folder that holds kept.json")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="images or volumes; folders within are searched"
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="gets masks/ and overlays/")


if __name__ == "__main__":
    main()
