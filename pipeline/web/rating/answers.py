"""The answers of raters: saved once, never overwritten, taken back by undo alone; replays change nothing."""

import sqlite3
from dataclasses import dataclass

from pipeline.web.rating.raters import Rater
from pipeline.web.refusals import Refused

LONGEST = 1000  # characters of a remark
RATED = "SELECT rating FROM ratings JOIN tasks USING (image) WHERE rater = ?"


@dataclass(frozen=True)
class Answer:
    """One rating; the rater's page makes its id, so that a request sent twice counts once."""

    rating: str
    image: str
    quality: int  # 1 to 5
    looks_real: bool
    remark: str = ""


@dataclass(frozen=True)
class Progress:
    """The progress of one rater."""

    name: str
    done: int
    total: int
    image: str | None  # the one to rate next; None: all are rated
    last: str | None  # the rating that undo takes back


def progress(connection: sqlite3.Connection, rater: Rater) -> Progress:
    """Return the progress of the rater."""
    total, done = connection.execute(
        "SELECT count(*), count(rating) FROM tasks LEFT JOIN ratings USING (image) WHERE rater = ?", (rater.number,)
    ).fetchone()
    following = connection.execute(
        "SELECT image FROM tasks LEFT JOIN ratings USING (image) WHERE rater = ? AND rating IS NULL ORDER BY position",
        (rater.number,),
    ).fetchone()
    return Progress(rater.name, done, total, following and following[0], _last(connection, rater))


def picture(connection: sqlite3.Connection, rater: Rater, image: str) -> bytes:
    """Return the PNG of one of the rater's images. Raises Refused for any other id (404)."""
    row = connection.execute(
        "SELECT png FROM tasks JOIN images USING (item) WHERE image = ? AND rater = ?", (image, rater.number)
    ).fetchone()
    if row is None:
        raise Refused(404, "there is no such image")
    return row[0]


def save(connection: sqlite3.Connection, rater: Rater, answer: Answer, *, in_order: bool = True) -> bool:
    """Save an answer; return False where exactly this one was saved before. Raises Refused.

    404: no image of this rater; 409: the image is rated already, the rating's id stands for another answer or for one
    taken back, or (in_order) the image is not the one to rate next.
    """
    if not connection.execute(
        "SELECT 1 FROM tasks WHERE image = ? AND rater = ?", (answer.image, rater.number)
    ).fetchone():
        raise Refused(404, "there is no such image")
    remark = clean_remark(answer.remark)
    row = (answer.rating, answer.image, answer.quality, int(answer.looks_real), remark)
    if _is_replay(connection, row):
        return False
    if in_order and progress(connection, rater).image != answer.image:
        raise Refused(409, "this is not the image to rate next")
    connection.execute("INSERT INTO ratings (rating, image, quality, looks_real, remark) VALUES (?, ?, ?, ?, ?)", row)
    return True


def undo(connection: sqlite3.Connection, rater: Rater, rating: str) -> bool:
    """Take the rater's last rating back and keep its content; return False where that was done before. Raises Refused.

    404: no rating of this rater; 409: not the last one.
    """
    query = "SELECT 1 FROM {} JOIN tasks USING (image) WHERE rating = ? AND rater = ?"
    if connection.execute(query.format("undone"), (rating, rater.number)).fetchone():
        return False
    if not connection.execute(query.format("ratings"), (rating, rater.number)).fetchone():
        raise Refused(404, "there is no such rating to take back")
    if rating != _last(connection, rater):
        raise Refused(409, "only the last rating can be taken back")
    take_back(connection, rating)
    return True


def take_back(connection: sqlite3.Connection, rating: str) -> None:
    """Move a rating to those undone."""
    connection.execute(
        "INSERT INTO undone SELECT rating, image, quality, looks_real, remark FROM ratings WHERE rating = ?", (rating,)
    )
    connection.execute("DELETE FROM ratings WHERE rating = ?", (rating,))


def clean_remark(text: str) -> str:
    """Return the remark as one line of printable characters. Raises Refused where it is too long (422)."""
    remark = "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
    if len(remark) > LONGEST:
        raise Refused(422, f"a remark has at most {LONGEST} characters")
    return remark


def _last(connection: sqlite3.Connection, rater: Rater) -> str | None:
    row = connection.execute(f"{RATED} ORDER BY sequence DESC", (rater.number,)).fetchone()
    return row and row[0]


def _is_replay(connection: sqlite3.Connection, row: tuple[str, str, int, int, str]) -> bool:
    """Return whether exactly this is saved. Raises Refused where something else is (409)."""
    columns = "SELECT rating, image, quality, looks_real, remark FROM ratings"
    rating, image = row[:2]
    if connection.execute("SELECT 1 FROM undone WHERE rating = ?", (rating,)).fetchone():
        raise Refused(409, "this rating was taken back; rate the image again")
    saved = connection.execute(f"{columns} WHERE rating = ?", (rating,)).fetchone()
    if saved == row:
        return True
    if saved is not None:
        raise Refused(409, "another answer was saved under this rating's id; undo it to change it")
    if connection.execute(f"{columns} WHERE image = ?", (image,)).fetchone():
        raise Refused(409, "this image is rated already; undo to change it")
    return False
