"""twinsynth predict: masks and overlays of new pictures or volumes, from a segmenter that a study has kept."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.cli.output import add_json, declare, tell, tell_json


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "predict",
        "write masks and overlays of a folder of pictures or volumes with a segmenter that a study has kept",
        "twinsynth predict --segmenter outputs/mine/segmentation/unet/kept/real/seed_0 --images new --to predicted",
    )
    parser.add_argument("--segmenter", type=Path, required=True, metavar="FOLDER", help="a folder that holds kept.json")
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of images or volumes; its subfolders are searched too",
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="folder that receives masks/ and overlays/"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict on one folder. Raises UserError."""
    from pipeline.deploy.prediction import predict_folder

    count = predict_folder(arguments.segmenter, arguments.images, arguments.to)
    if arguments.json:
        tell_json({"images": count, "written": arguments.to})
    else:
        tell(f"{arguments.to}: masks/ and overlays/ of {count} images")
    return 0
