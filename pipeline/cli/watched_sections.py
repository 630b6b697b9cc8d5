"""The sections of params.yaml that dvc.yaml names for every study, so that none of them may be left out."""

from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml

WATCHED = {"base": "null", "generators": "{}", "judge": "null", "score": "null", "audit": "null", "confirm": "null"}


def check_watched_sections(path: Path) -> None:
    """Raise UserError where a study leaves out a section that dvc.yaml names for every study."""
    values = read_yaml(path)
    if absent := [f"{section}: {none}" for section, none in WATCHED.items() if section not in values]:
        raise UserError(
            f"{path}: DVC needs every section in the file, whether it is used or not; add the line {absent[0]}"
        )
