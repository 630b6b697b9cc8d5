"""Release cards of a finished study with several attacked generators, as `twinsynth release` writes them."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import main
from pipeline.core import files, paths
from pipeline.data.image_set import ImageSet
from pipeline.deploy.release.card import ReleaseCard
from pipeline.deploy.release.hashes import read_card
from pipeline.stages.report.stage_outputs import unfinished_stages
from pipeline.study import Params
from tests.attacked_generators import STUDY, attacked_study

SIAMESE = Path("released/siamese")


def finished_study() -> Params:
    """The study, of which every stage but the report has left its files in the current folder."""
    params = attacked_study()
    files.write_json(Path("params.yaml"), STUDY)
    assert unfinished_stages(params) == ["report"]
    return params


def released(name: str, *more: str) -> ReleaseCard:
    assert main(["release", name, *more]) == 0
    return read_card(Path("released") / (f"{name}_images" if "--images" in more else name))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["release", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


def topics(card: ReleaseCard) -> set[str]:
    return {one.topic for one in card.unknown}


def edit(path: Path, **changes: Any) -> None:
    files.write_json(path, files.read_json(path) | changes)


def images_of(name: str) -> ImageSet:
    return ImageSet.open(paths.synthetic("toy", name))


def rewrite(name: str, rows: list[Any]) -> None:
    """Give an image set other rows."""
    images = images_of(name)
    ImageSet.finish(images.folder, images.spec, rows)
