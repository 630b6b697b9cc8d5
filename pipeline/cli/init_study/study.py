"""From folders to a study: the layout, what is in it, and a text that holds as a study."""

from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.cli.init_study import layouts
from pipeline.cli.init_study.layouts import Layout
from pipeline.cli.init_study.survey import survey
from pipeline.core.section import parse
from pipeline.study import Params

__all__ = ["checked", "detect", "survey"]


def detect(images: Path | None, masks: Path | None, root: Path | None, prompt: str | None) -> Layout:
    """The layout of two folders, or of the root of a data set; with another prompt, where one is given."""
    found = layouts.detect_pair(images, masks) if images and masks else layouts.detect(root or Path())
    return found if prompt is None else replace(found, prompt=prompt)


def checked(text: str) -> str:
    """The same text; raises UserError where it is no valid study."""
    parse(Params, YAML(typ="safe", pure=True).load(text))
    return text
