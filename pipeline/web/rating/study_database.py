"""The database of a study's ratings: begun once, with images that stay the same until the last answer."""

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.study import Params
from pipeline.web.rating import raters, selection
from pipeline.web.rating.database import FILE, Database, study_info

PER_ARM = 20  # images of each generator and real ones


def database_path(study: str) -> Path:
    """Return where the database of a study lies."""
    return paths.ratings(study) / FILE


def open_database(study: str) -> Database:
    """Open the database that was begun. Raises UserError where there is none."""
    database = Database(database_path(study))
    database.check()
    return database


def begin_study(params: Params, per_arm: int | None = None, generators: Sequence[str] = ()) -> Database:
    """Open the study's database, created where there is none. Raises UserError where it holds other images."""
    database = Database(database_path(params.study))
    sets = selection.image_sets(params.study, params.generators, generators)
    info = {"study": params.study, "per_arm": per_arm or PER_ARM, "digests": selection.digests(sets)}
    if not database.create(info, lambda: selection.draw(sets, info["per_arm"], params.seed)):
        _check(database, params.study, params.generators, per_arm, generators)
    return database


def changed_arms(database: Database, study: str, generators: Collection[str]) -> list[str]:
    """Return the arms whose images are no longer those that were drawn from."""
    with database.reading() as connection:
        digests = study_info(connection)["digests"]
    sets = selection.image_sets(study, generators, [arm for arm in digests if arm in generators])
    present = selection.digests(sets)
    return [arm for arm, digest in digests.items() if present.get(arm) != digest]


def rater_keys(database: Database, names: Sequence[str]) -> dict[str, str]:
    """Return the key of each rater's personal link; raters not known yet are added. Raises UserError."""
    with database.writing() as connection:
        return {name: raters.ensure_rater(connection, name) for name in names}


def image_counts(database: Database) -> dict[str, int]:
    """Return how many images of each arm are rated."""
    with database.reading() as connection:
        return dict(connection.execute("SELECT arm, count(*) FROM images GROUP BY arm ORDER BY min(item)"))


def _check(
    database: Database, study: str, generators: Collection[str], per_arm: int | None, selected: Collection[str]
) -> None:
    """Raise UserError where the database was begun with other images."""
    with database.reading() as connection:
        info = study_info(connection)
    aside = f"or move {database.path} away to begin again"
    if per_arm not in (None, info["per_arm"]):
        raise UserError(
            f"the ratings began with {info['per_arm']} images each, not {per_arm}; leave --images out, {aside}"
        )
    if other := set(selected) - info["digests"].keys():
        raise UserError(f"the ratings began without {', '.join(sorted(other))}; leave --generator out, {aside}")
    if changed := changed_arms(database, study, generators):
        raise UserError(
            f"the images of {', '.join(changed)} are not the ones that the ratings began with; restore them, {aside}"
        )
