"""The ratings of a study: begun once, with images that stay the same until the last answer."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.rating import raters, selection
from pipeline.rating.database import FILE, Database, about
from pipeline.study import Params

PER_ARM = 20  # images of each generator and real ones


def place(study: str) -> Path:
    """Where the database of a study lies."""
    return paths.ratings(study) / FILE


def open_study(params: Params) -> Database:
    """The database that was begun. Raises UserError where there is none."""
    database = Database(place(params.study))
    database.check()
    return database


def begin_study(params: Params, per_arm: int | None = None, generators: Sequence[str] = ()) -> Database:
    """The study's database, made where there is none. Raises UserError where it holds other images than asked for."""
    database = Database(place(params.study))
    sets = selection.image_sets(params, generators)
    wanted = {"study": params.study, "per_arm": per_arm or PER_ARM, "digests": selection.digests(sets)}
    if not database.begin(wanted, lambda: selection.draw(sets, wanted["per_arm"], params.seed)):
        _check(database, params, per_arm, generators)
    return database


def changed(database: Database, params: Params) -> list[str]:
    """Arms whose images are not those that were drawn from."""
    with database.reading() as connection:
        begun = about(connection)["digests"]
    sets = selection.image_sets(params, [arm for arm in begun if arm in params.generators])
    now = selection.digests(sets)
    return [arm for arm, digest in begun.items() if now.get(arm) != digest]


def keys(database: Database, names: Sequence[str]) -> dict[str, str]:
    """The key of each rater's personal link; raters who are not there yet are taken in. Raises UserError."""
    with database.writing() as connection:
        return {name: raters.key_of(connection, name) for name in names}


def arms(database: Database) -> dict[str, int]:
    """How many images of each arm are rated."""
    with database.reading() as connection:
        return dict(connection.execute("SELECT arm, count(*) FROM images GROUP BY arm ORDER BY min(item)"))


def _check(database: Database, params: Params, per_arm: int | None, generators: Sequence[str]) -> None:
    with database.reading() as connection:
        begun = about(connection)
    aside = f"or move {database.path} away to begin again"
    if per_arm not in (None, begun["per_arm"]):
        raise UserError(
            f"the ratings began with {begun['per_arm']} images each, not {per_arm}; leave --images out, {aside}"
        )
    if other := set(generators) - begun["digests"].keys():
        raise UserError(f"the ratings began without {', '.join(sorted(other))}; leave --generator out, {aside}")
    if arms_changed := changed(database, params):
        raise UserError(
            f"the images of {', '.join(arms_changed)} are not those that the ratings began with; restore them, {aside}"
        )
