"""From folders to a study: the layout, the survey of its content, and the check of the written text."""

from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.cli.init_study import layouts
from pipeline.cli.init_study.layouts import DatasetLayout
from pipeline.cli.init_study.survey import survey
from pipeline.cli.init_study.writing import UnlabelledFolder
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.decoding import InvalidData
from pipeline.stages.prepare import unlabelled
from pipeline.study import Params

__all__ = ["checked", "count_unlabelled", "detect", "survey"]


def detect(images: Path | None, masks: Path | None, root: Path | None, prompt: str | None) -> DatasetLayout:
    """Return the layout of two folders, or of the root of a data set, with the prompt where one is given."""
    layout = layouts.detect_pair(images, masks) if images and masks else layouts.detect(root or Path())
    return layout if prompt is None else replace(layout, prompt=prompt)


def count_unlabelled(folder: Path | None) -> UnlabelledFolder | None:
    """Return a folder of images without masks with their number. Raises UserError where it holds none."""
    if folder is None:
        return None
    try:
        return UnlabelledFolder(folder, len(unlabelled.pictures(folder)))
    except InvalidData as fault:
        raise UserError(f"--unlabelled: {fault}") from None


def checked(text: str) -> str:
    """Return the same text. Raises UserError where it is no valid study."""
    parse(Params, YAML(typ="safe", pure=True).load(text))
    return text
