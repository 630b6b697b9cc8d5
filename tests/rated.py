"""Raters that tests send to the rating page, without a socket."""

import json
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from fastapi.testclient import TestClient
from httpx import Response

from pipeline.web.guard import LOOPBACK, RateLimits
from pipeline.web.rating.app import create_app
from pipeline.web.rating.database import Database

numbers = count(1)


def fresh() -> str:
    """An id as the page makes them."""
    return f"{next(numbers):032x}"


def browser(database: Database, token: str | None = None, limits: RateLimits | None = None) -> TestClient:
    """Asks an application as a page of this computer does."""
    return TestClient(create_app(database, token, LOOPBACK, limits), "http://127.0.0.1:8765", follow_redirects=False)


@dataclass
class Visitor:
    """One rater's page; keeps every response."""

    client: TestClient
    key: str = ""
    heard: list[Response] = field(default_factory=list)

    @classmethod
    def enter(cls, client: TestClient, name: str) -> "Visitor":
        """One who starts with a name."""
        return cls(client, client.post("/api/raters", json={"name": name}).raise_for_status().json()["key"])

    def get(self, path: str) -> Response:
        return self._hear(self.client.get(path, headers={"X-Rater-Key": self.key}))

    def post(self, path: str, body: Any) -> Response:
        return self._hear(self.client.post(path, json=body, headers={"X-Rater-Key": self.key}))

    def progress(self) -> dict[str, Any]:
        return self.get("/api/progress").raise_for_status().json()

    def rate(self, quality: int = 4, looks_real: bool = True, remark: str = "") -> dict[str, Any]:
        """Rates the next image; the request's body."""
        about = {"quality": quality, "looks_real": looks_real, "remark": remark}
        body = {"rating": fresh(), "image": self.progress()["image"], **about}
        self.post("/api/ratings", body).raise_for_status()
        return body

    def _hear(self, response: Response) -> Response:
        self.heard.append(response)
        return response


def saved(database: Database) -> list[tuple[Any, ...]]:
    """All ratings and all that were taken back."""
    columns = "rating, image, quality, looks_real, remark"
    with database.reading() as connection:
        kept = connection.execute(f"SELECT {columns} FROM ratings ORDER BY sequence").fetchall()
        return kept + connection.execute(f"SELECT {columns} FROM undone ORDER BY rating").fetchall()


def words(response: Response) -> str:
    """Everything that a response says, headers first."""
    return json.dumps(dict(response.headers)) + response.content.decode("latin-1")
