"""twinsynth predict: masks and overlays of new pictures or volumes, from a segmenter that a study has kept."""

import argparse
from typing import Any

from pipeline.cli.commands import predict
from pipeline.cli.output import add_json, declare, tell, tell_json


def add(subparsers: Any) -> None:
    """Declares the verb."""
    parser = declare(
        subparsers,
        "predict",
        "write masks and overlays of a folder of pictures or volumes with a segmenter that a study has kept",
        "twinsynth predict --segmenter outputs/mine/segmentation/unet/kept/real/seed_0 --images new --to predicted",
    )
    predict.add_arguments(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predicts on one folder. Raises UserError."""
    from pipeline.deploy.prediction import predict_folder

    count = predict_folder(arguments.segmenter, arguments.images, arguments.to)
    if arguments.json:
        tell_json({"images": count, "written": arguments.to})
    else:
        tell(predict.told(count, arguments.to))
    return 0
