"""The real images whose pixels or placed masks a synthetic image holds, or that it was drawn with as a hint."""

import json

from pipeline.core.errors import UserError
from pipeline.data.manifest import Row


def background_of(row: Row) -> str | None:
    """Return the id of the training image whose pixels a synthetic image was drawn into or from; None: none."""
    return row.get("background_id")


def control_image_of(row: Row) -> str | None:
    """Return the id of the training image that a synthetic image was drawn with as a second hint; None: none."""
    return row.get("control_image_id")


def lenders(row: Row) -> set[str]:
    """Return the ids of the background, of the images whose masks were placed in it, and of the control image.

    Raises UserError where the column `placed` is not what the stage generate writes.
    """
    try:
        placed = {str(one["source_id"]) for one in json.loads(row.get("placed") or "[]")}
    except (TypeError, ValueError, KeyError):
        raise UserError(
            f"{row['id']}: the column placed does not hold a JSON list of placed masks; run generate again"
        ) from None
    shown = {background_of(row), control_image_of(row)}
    return placed | {name for name in shown if name is not None}
