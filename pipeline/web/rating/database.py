"""The database of one study's ratings: SQLite with a write-ahead log, one transaction per change, flushed to disk.

It holds the images too, so that a stage run again does not change what the raters see, and the secret behind all ids.
"""

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.web.rating.selection import Picture

FILE = "rating.sqlite"  # beside the CSV files; DVC does not track it
SCHEMA_VERSION = 1
SCHEMA = (
    "CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE images (item INTEGER PRIMARY KEY, arm TEXT NOT NULL, id TEXT NOT NULL, png BLOB NOT NULL,
        UNIQUE (arm, id))""",
    """CREATE TABLE raters (rater INTEGER PRIMARY KEY, name TEXT NOT NULL, folded TEXT NOT NULL UNIQUE,
        key_sha256 TEXT NOT NULL UNIQUE, attempt_sha256 TEXT)""",
    """CREATE TABLE tasks (image TEXT PRIMARY KEY, rater INTEGER NOT NULL REFERENCES raters, position INTEGER NOT NULL,
        item INTEGER NOT NULL REFERENCES images, UNIQUE (rater, position), UNIQUE (rater, item))""",
    """CREATE TABLE ratings (sequence INTEGER PRIMARY KEY AUTOINCREMENT, rating TEXT NOT NULL UNIQUE,
        image TEXT NOT NULL UNIQUE REFERENCES tasks, quality INTEGER NOT NULL CHECK (quality BETWEEN 1 AND 5),
        looks_real INTEGER NOT NULL CHECK (looks_real IN (0, 1)), remark TEXT NOT NULL)""",
    """CREATE TABLE undone (rating TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES tasks, quality INTEGER NOT NULL,
        looks_real INTEGER NOT NULL, remark TEXT NOT NULL)""",
)


@dataclass(frozen=True)
class Database:
    """A file of ratings; every request opens its own connection."""

    path: Path
    wait: float = 5.0  # seconds for the transaction of another process

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that sees one state. Raises sqlite3.Error."""
        with closing(self.connect()) as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a transaction: all of it is on disk when the block ends, or nothing. Raises sqlite3.Error."""
        with closing(self.connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")  # closing without it rolls back

    def connect(self) -> sqlite3.Connection:
        """Connect to a file that exists; it is never created here."""
        uri = f"{self.path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=self.wait, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def create(self, info: dict[str, Any], draw: Callable[[], Sequence[Picture]]) -> bool:
        """Create the database where there is none; return whether it did. Raises UserError where the file is not one.

        A process killed meanwhile leaves nothing that counts; of two at once, one creates it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch(mode=0o600)  # it holds images and the secret; SQLite gives its other files the same mode
        with _user_errors(self.path), closing(self.connect()) as connection:
            if _schema_version(connection, self.path):
                return False
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            if _schema_version(connection, self.path):
                return False
            _fill(connection, info, draw())
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        return True

    def check(self) -> None:
        """Raise UserError where there is no database of ratings."""
        if not self.path.is_file():
            raise UserError(f"{self.path} does not exist; twinsynth rate serve or twinsynth rate static makes it")
        with _user_errors(self.path), closing(self.connect()) as connection:
            if not _schema_version(connection, self.path):
                raise UserError(f"{self.path} is empty; remove it and start again")


def study_info(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return what is known of the study: name, images per arm, digests of its image sets, secret."""
    return {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM study")}


def secret(connection: sqlite3.Connection) -> bytes:
    """Return the secret behind ids, keys and orders."""
    return bytes.fromhex(study_info(connection)["secret"])


@contextmanager
def _user_errors(path: Path) -> Iterator[None]:
    """Turn a fault of the file into a UserError, outside of requests."""
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(
            f"{path} cannot be used as a database of ratings ({error}); wait for other programs that use it, free some"
            " space, or restore a copy of it"
        ) from error


def _schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the tables, 0 where there are none."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if (
        version not in (0, SCHEMA_VERSION)
        or (version == 0 and tables)
        or (version == SCHEMA_VERSION and "ratings" not in tables)
    ):
        raise UserError(f"{path} is not a database of ratings of this version; move it away")
    return version


def _fill(connection: sqlite3.Connection, info: dict[str, Any], pictures: Sequence[Picture]) -> None:
    for table in SCHEMA:
        connection.execute(table)
    rows = {**info, "secret": secrets.token_hex(32)}
    connection.executemany("INSERT INTO study VALUES (?, ?)", [(name, json.dumps(rows[name])) for name in rows])
    connection.executemany(
        "INSERT INTO images (arm, id, png) VALUES (?, ?, ?)", [(one.arm, one.id, one.png) for one in pictures]
    )
