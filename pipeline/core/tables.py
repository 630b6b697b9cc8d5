"""Tables as CSV, and metrics as flat JSON."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import UserError


def write_metrics(path: Path, values: Mapping[str, Any]) -> None:
    """Write metrics for `dvc metrics show`; a value that is not finite becomes null."""
    files.write_json(path, _finite(values))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV; the columns are those of the first row unless given."""
    columns = columns or (list(rows[0]) if rows else [])
    with files.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file. Raises UserError where it is damaged, OSError where it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8 ({error}); remove it, or make it again") from None
