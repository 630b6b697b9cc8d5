"""Raters: each has a name, a key (part of the personal link), and an order of opaque ids of the images."""

import hashlib
import sqlite3
import unicodedata
from dataclasses import dataclass

from pipeline.web.rating.blinding import opaque_id, shuffle
from pipeline.web.rating.database import secret
from pipeline.web.refusals import Refused

LONGEST = 40  # characters of a name
MOST = 500  # raters of a study
MARKS = " .-_'"  # that a name may contain beside letters and digits


@dataclass(frozen=True)
class Rater:
    """Someone who rates."""

    number: int
    name: str


def clean_name(text: str) -> str:
    """Return the name in one form. Raises Refused where it is not a name (422)."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    letters = all(sign.isalnum() or sign in MARKS for sign in name)
    if not (name and len(name) <= LONGEST and name[0].isalnum() and letters):
        raise Refused(
            422, f"a name has 1 to {LONGEST} letters, digits, spaces, - . _ and begins with a letter or digit"
        )
    return name


def add_rater(connection: sqlite3.Connection, text: str, attempt: str | None = None) -> str:
    """Add a rater and return the key. Raises Refused for an impossible name (422), one in use or too many (409).

    The same attempt, sent again because its answer was lost, gives the same key.
    """
    name = clean_name(text)
    attempt_hash = _sha256(attempt) if attempt else None
    known = connection.execute("SELECT attempt_sha256 FROM raters WHERE folded = ?", (_folded(name),)).fetchone()
    if known and attempt_hash and known[0] == attempt_hash:
        return opaque_id(secret(connection), "key", _folded(name))
    if known:
        raise Refused(409, "this name is in use; open the personal link to go on, or choose another name")
    if connection.execute("SELECT count(*) FROM raters").fetchone()[0] >= MOST:
        raise Refused(409, f"there are {MOST} raters already")
    key = opaque_id(secret(connection), "key", _folded(name))
    cursor = connection.execute(
        "INSERT INTO raters (name, folded, key_sha256, attempt_sha256) VALUES (?, ?, ?, ?)",
        (name, _folded(name), _sha256(key), attempt_hash),
    )
    _assign_tasks(connection, cursor.lastrowid or 0)
    return key


def _assign_tasks(connection: sqlite3.Connection, number: int) -> None:
    """Assign all images to a rater, under ids and in an order that no other rater has."""
    key = secret(connection)
    items = shuffle([item for (item,) in connection.execute("SELECT item FROM images")], key, number)
    tasks = [(opaque_id(key, "image", number, item), number, k, item) for k, item in enumerate(items)]
    connection.executemany("INSERT INTO tasks (image, rater, position, item) VALUES (?, ?, ?, ?)", tasks)


def ensure_rater(connection: sqlite3.Connection, text: str) -> str:
    """Return the key of a rater, who is added where there is none of this name. Raises Refused."""
    name = clean_name(text)
    known = connection.execute("SELECT 1 FROM raters WHERE folded = ?", (_folded(name),)).fetchone()
    return opaque_id(secret(connection), "key", _folded(name)) if known else add_rater(connection, name)


def find_rater(connection: sqlite3.Connection, key: str) -> Rater:
    """Return the rater of a key, looked up by its hash so that timing reveals nothing. Raises Refused (401)."""
    row = connection.execute("SELECT rater, name FROM raters WHERE key_sha256 = ?", (_sha256(key),)).fetchone()
    if row is None:
        raise Refused(401, "this personal link is not known here; ask for it again, or start with a name")
    return Rater(*row)


def _folded(name: str) -> str:
    """Return the form by which two names count as one."""
    return unicodedata.normalize("NFKC", name).casefold()


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
