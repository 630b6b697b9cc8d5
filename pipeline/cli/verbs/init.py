"""twinsynth init: a study of your own images, written from a survey of their folder."""

import argparse
import os
import re
from pathlib import Path
from typing import Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.cli.verbs.study import STUDIES
from pipeline.core import gpus
from pipeline.core.errors import UserError


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "init",
        "look at a folder of images and masks and write a study of them",
        "twinsynth init --images data/mine/images --masks data/mine/masks --name mine",
        "twinsynth init --images data/mine/images --masks data/mine/masks --unlabelled data/mine/unlabelled",
        "twinsynth init --root data/ISIC2018                 # also Kvasir-SEG, PraNet, PH2, CIMD, MSD, nnU-Net, DICOM",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="the folder of images")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="the folder of their masks")
    parser.add_argument("--root", type=Path, metavar="DIR", help="instead of both: the folder of a whole data set")
    parser.add_argument("--unlabelled", type=Path, metavar="DIR", help="a folder of images without masks, for the base")
    parser.add_argument(
        "--name", help="name of the study: lower-case letters, digits and _ (default: the name of the folder)"
    )
    parser.add_argument("--prompt", help="what the images show, for example 'A photo of a polyp.'")
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), help="what the study is planned for (default: a GPU where there is one)"
    )
    parser.add_argument("--force", action="store_true", help="replace a study of this name")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the study. Raises UserError, also where a study of this name exists and --force is not given."""
    _check(arguments)
    from pipeline.cli.init_study import study, writing
    from pipeline.core import files

    layout = study.detect(arguments.images, arguments.masks, arguments.root, arguments.prompt)
    name = arguments.name or study_name(layout.root)
    path = STUDIES / f"{name}.yaml"
    if path.exists() and not arguments.force:
        raise UserError(f"{path} already exists; choose another --name, or pass --force to replace it")
    result = study.survey(layout)
    more = study.count_unlabelled(arguments.unlabelled)
    text = study.checked(writing.write(name, layout, result, _target(arguments.device), Path.cwd(), more))
    files.write_bytes(path, text.encode())
    if arguments.json:
        about = {"study": name, "file": path, "layout": layout.title, "reader": layout.reader}
        tell_json({**about, **result.record(), **({"unlabelled": more.images} if more else {})})
        return 0
    tell(f"{layout.title}, read by {layout.reader}")
    for line in writing.summary(result):
        tell(f"  {line}")
    if more:
        tell(f"  {more.images} images without masks in {more.folder}")
    for fault in result.faults[:1]:
        tell(f"  the first: {fault}")
    tell(f"written: {path}; read it, then: twinsynth study use {name}, twinsynth doctor, dvc repro")
    return 0


def study_name(root: Path) -> str:
    """Return a study's name after its folder."""
    return re.sub(r"[^a-z0-9]+", "_", root.resolve().name.lower()).strip("_") or "mine"


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.images is None) != (arguments.masks is None):
        raise UserError("give both --images and --masks")
    if (arguments.images is None) == (arguments.root is None):
        raise UserError("give --images and --masks, or --root")
    if arguments.name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9_]*", arguments.name):
        raise UserError(f"--name is {arguments.name!r}; a name consists of lower-case letters, digits and _")


def _target(device: str | None) -> Any:
    from pipeline.cli.init_study.writing import Target

    return Target(device == "gpu" or (device is None and gpus.count_visible() > 0), os.cpu_count() or 1)
