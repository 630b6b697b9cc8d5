"""The web application: a page and the few requests that it makes. Nothing it sends reveals where an image is from."""

import hmac
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from pipeline.web.guard import Guard, RateLimits
from pipeline.web.rating import answers, pages, raters
from pipeline.web.rating.answers import Answer, Progress
from pipeline.web.rating.blinding import ID
from pipeline.web.rating.database import Database
from pipeline.web.refusals import Refused

Key = Annotated[str, Header(alias="X-Rater-Key", max_length=64)]
Token = Annotated[str, Header(alias="X-Study-Token", max_length=256)]
Id = Annotated[str, Field(pattern=ID)]
REFUSALS = {
    400: "the request is not understood",
    401: "the personal link or the token is not known",
    403: "the request comes from another page",
    404: "there is no such image or rating",
    408: "the request did not come to its end",
    409: "it contradicts what is saved; nothing was changed",
    413: "the request is too large",
    415: "the request is no JSON",
    422: "a value is missing or out of bounds",
    429: "too many requests",
    503: "the database is in use or its disk is full; nothing was saved, send the same request again",
}


class NewRater(BaseModel):
    """Someone who wants to rate."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=200)
    attempt: Id | None = None  # made by the page: the same for every attempt to start once


class RaterKey(BaseModel):
    """The key of a rater's personal link."""

    key: str


class NewRating(BaseModel):
    """One answer."""

    model_config = ConfigDict(extra="forbid", strict=True)
    rating: Id  # made by the page: the same for every attempt to send one answer
    image: Id
    quality: int = Field(ge=1, le=5)
    looks_real: bool
    remark: str = Field(default="", max_length=4 * answers.LONGEST)


class Undo(BaseModel):
    """The rating to take back."""

    model_config = ConfigDict(extra="forbid", strict=True)
    rating: Id


class Refusal(BaseModel):
    """Why a request was refused."""

    error: str


def create_app(
    database: Database, token: str | None = None, hosts: tuple[str, ...] | None = None, limits: RateLimits | None = None
) -> FastAPI:
    """Return the application; with a token, every request but that of the page must carry it."""
    page = pages.served_page()
    app = FastAPI(
        title="Image rating",
        lifespan=_connected(database),
        openapi_url=None,  # without the description there are no pages of it either
        redirect_slashes=False,  # a redirect would repeat the host that the request names
        responses={status: {"model": Refusal, "description": text} for status, text in REFUSALS.items()},
    )
    _add_requests(app, database, _token_check(token))
    app.get("/", response_class=HTMLResponse, include_in_schema=False)(lambda: HTMLResponse(page.html))
    for kind, answer in HANDLERS.items():
        app.add_exception_handler(kind, answer)
    app.add_middleware(Guard, policy=page.policy, hosts=hosts, limits=limits or RateLimits())
    return app


def _add_requests(app: FastAPI, database: Database, check: Callable[..., None]) -> None:
    guarded = [Depends(check)]

    @app.post("/api/raters", status_code=201, dependencies=guarded)
    def add_rater(new: NewRater) -> RaterKey:
        """Add a rater."""
        with database.writing() as connection:
            key = raters.add_rater(connection, new.name, new.attempt)
        return RaterKey(key=key)

    @app.get("/api/progress", dependencies=guarded)
    def progress(key: Key = "") -> Progress:
        """Return how far the rater has come, and the image to rate next."""
        with database.reading() as connection:
            return answers.progress(connection, raters.find_rater(connection, key))

    @app.get("/api/images/{image}", dependencies=guarded, response_class=Response)
    def picture(image: str, key: Key = "") -> Response:
        """Return one image as PNG."""
        with database.reading() as connection:
            png = answers.picture(connection, raters.find_rater(connection, key), image)
        return Response(png, media_type="image/png")

    @app.post("/api/ratings", dependencies=guarded)
    def rate(rating: NewRating, key: Key = "") -> Progress:
        """Save an answer to the image to rate next; sent again, it changes nothing."""
        with database.writing() as connection:
            rater = raters.find_rater(connection, key)
            answers.save(connection, rater, Answer(**rating.model_dump()))
            return answers.progress(connection, rater)

    @app.post("/api/undo", dependencies=guarded)
    def undo(last: Undo, key: Key = "") -> Progress:
        """Take the last rating back; sent again, it changes nothing."""
        with database.writing() as connection:
            rater = raters.find_rater(connection, key)
            answers.undo(connection, rater, last.rating)
            return answers.progress(connection, rater)


def _token_check(token: str | None) -> Callable[..., None]:
    """Return the check of the study's token, which comes before anything else."""

    def check(given: Token = "") -> None:
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            raise Refused(401, "the link lacks the study's token, or has another one")

    return check


def _connected(database: Database) -> Any:
    """Keep one connection for the application's life, so that the log is not written back after every request."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with closing(database.connect()) as connection:
            connection.execute("SELECT count(*) FROM study").fetchone()
            yield

    return lifespan


def _refusal(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status, {"Retry-After": "2"} if status in (429, 503) else None)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    return _refusal(getattr(error, "status", 400), str(error))


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Name the fields, and repeat nothing of what was sent."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    places = sorted(
        {str(fault["loc"][1]) for fault in faults if len(fault["loc"]) > 1 and fault["type"] != "extra_forbidden"}
    )
    known = [place for place in places if not place.isdecimal()]
    return _refusal(422, f"missing or out of bounds: {', '.join(known) or 'the request as a whole'}")


async def _unknown(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _refusal(status, REFUSALS.get(status, "this is no request of the rating page"))


async def _busy(_request: Request, _error: Exception) -> JSONResponse:
    return _refusal(503, REFUSALS[503])


HANDLERS: dict[type[Exception], Any] = {
    Refused: _refused,
    RequestValidationError: _invalid,
    HTTPException: _unknown,
    sqlite3.Error: _busy,
}
