"""The real images whose pixels or placed masks a synthetic image holds, beside the image of its own mask."""

import json

from pipeline.core.errors import UserError
from pipeline.data.manifest import Row


def background_of(row: Row) -> str | None:
    """Return the id of the training image whose pixels a synthetic image was drawn into or from; None: none."""
    return row.get("background_id")


def lenders(row: Row) -> set[str]:
    """Return the ids of the background and of the images whose masks were placed in it.

    Raises UserError where the column `placed` is not what the stage generate writes.
    """
    try:
        placed = {str(one["source_id"]) for one in json.loads(row.get("placed") or "[]")}
    except (TypeError, ValueError, KeyError):
        raise UserError(
            f"{row['id']}: the column placed does not hold a JSON list of placed masks; run generate again"
        ) from None
    background = background_of(row)
    return placed | ({background} if background is not None else set())
