"""Pages for raters without a server: one HTML file each; what its ids mean stays in the database."""

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.web.rating import raters
from pipeline.web.rating.database import Database
from pipeline.web.rating.pages import saved_page


def write_pages(database: Database, names: Sequence[str], folder: Path) -> list[Path]:
    """Write one file per rater, which its owner alone can read; raters not known yet are added.

    Raises UserError where two names give one file.
    """
    targets = {name: folder / f"rate_{_file_name(name)}.html" for name in map(raters.clean_name, names)}
    if len(set(targets.values())) < len(names):
        raise UserError(
            f"two of the raters {', '.join(names)} would get the same file; choose names that differ in a letter"
        )
    with database.writing() as connection:
        for name in names:
            raters.ensure_rater(connection, name)
    for name, path in targets.items():
        files.write_bytes(path, _page(database, name).encode(), private=True)
    return list(targets.values())


def _page(database: Database, name: str) -> str:
    with database.reading() as connection:
        rater = raters.find_rater(connection, raters.ensure_rater(connection, name))
        tasks = connection.execute(
            "SELECT image, png FROM tasks JOIN images USING (item) WHERE rater = ? ORDER BY position", (rater.number,)
        ).fetchall()
    return saved_page(rater.name, tasks).html


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._").lower()
