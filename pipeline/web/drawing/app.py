"""The web application of `twinsynth try`, for the browser of this computer alone."""

import base64
from functools import cache
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from pipeline.core.errors import UserError
from pipeline.data.image_files import png
from pipeline.methods.conditioning.mask import palette
from pipeline.web.drawing import runs, saved_pairs
from pipeline.web.drawing.request import DrawingRequest
from pipeline.web.drawing.runs import Runs
from pipeline.web.drawing.workbench import Drawing, Workbench
from pipeline.web.guard import LOOPBACK, Guard, RateLimits
from pipeline.web.page_files import FRAMES, Page, build_page
from pipeline.web.refusals import Refused

DATA_FILES = ("page.css", "page.html", "brush.js", "page.js")
LARGEST = 2_000_000  # bytes of a request: the runs of a ragged mask
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class StudyFacts(BaseModel):
    """What the page needs to know of the study."""

    study: str
    size: int
    colours: list[list[int]]  # of the classes, background first
    generators: list[str]
    masks: int  # training pairs whose masks can be taken
    steps: int
    guidance_scale: float
    folder: str  # where pairs are kept


class TrainingMask(BaseModel):
    """The mask of one training pair."""

    id: str
    runs: Runs


class Started(BaseModel):
    """The id of a drawing that has begun."""

    drawing: str


class CloseImage(BaseModel):
    """A training image that looks alike."""

    id: str
    distance: float
    same: bool
    image: str  # PNG, base64


class State(BaseModel):
    """How far a drawing has come, and what came of it. Pictures are PNG, base64."""

    done: int
    steps: int
    preview: str | None = None
    error: str | None = None
    image: str | None = None
    predicted: Runs | None = None  # of the judge
    dice: float | None = None
    unjudged: str | None = None  # why there is no judge
    closest: list[CloseImage] = []


class OfDrawing(BaseModel):
    """The drawing that is to be stopped or kept."""

    model_config = ConfigDict(extra="forbid", strict=True)
    drawing: Id


class Kept(BaseModel):
    """A pair that was kept."""

    id: str
    pairs: int


@cache
def drawing_page() -> Page:
    """Return the page; it holds nothing of the study."""
    page = build_page("pipeline.web.drawing", ("brush.js", "page.js"), "'self'")
    return Page(page.html, page.policy + FRAMES)


def create_app(workbench: Workbench, limits: RateLimits | None = None) -> FastAPI:
    """Return the application over a workbench."""
    page = drawing_page()
    app = FastAPI(title="Try a generator", openapi_url=None, redirect_slashes=False)
    _add_facts(app, workbench)
    _add_drawings(app, workbench)
    app.get("/", response_class=HTMLResponse, include_in_schema=False)(lambda: HTMLResponse(page.html))
    for kind, answer in HANDLERS.items():
        app.add_exception_handler(kind, answer)
    app.add_middleware(Guard, policy=page.policy, hosts=LOOPBACK, limits=limits or RateLimits(), largest=LARGEST)
    return app


def _add_facts(app: FastAPI, workbench: Workbench) -> None:
    """Add the requests for what does not change."""
    params, spec = workbench.params, workbench.real.spec

    @app.get("/api/study")
    def study() -> StudyFacts:
        """Return the facts of the study."""
        colours = (palette(spec.num_classes) * 255).round().int().tolist()
        generate = params.generate
        return StudyFacts(
            study=params.study,
            size=spec.size,
            colours=colours,
            generators=workbench.names,
            masks=len(workbench.train),
            steps=generate.steps,
            guidance_scale=generate.guidance_scale,
            folder=saved_pairs.folder_of(params.study).as_posix(),
        )

    @app.get("/api/masks/{number}")
    def mask(number: Annotated[int, Path(ge=0)]) -> TrainingMask:
        """Return the mask of a training pair."""
        if number >= len(workbench.train):
            raise Refused(404, f"there are {len(workbench.train)} training masks")
        row = workbench.train.rows[number]
        return TrainingMask(id=row["id"], runs=runs.encode(workbench.train.mask(row)))


def _add_drawings(app: FastAPI, workbench: Workbench) -> None:
    """Add the requests that draw, stop and keep."""

    @app.post("/api/drawings", status_code=201)
    def draw(request: DrawingRequest) -> Started:
        """Begin to draw an image."""
        return Started(drawing=workbench.start(request).id)

    @app.get("/api/drawings/{drawing}")
    def state(drawing: str) -> State:
        """Return how far a drawing has come."""
        return state_of(workbench.find(drawing))

    @app.post("/api/stop")
    def stop(which: OfDrawing) -> State:
        """End a drawing after the step that it is at."""
        found = workbench.find(which.drawing)
        found.stopped = True
        return state_of(found)

    @app.post("/api/pairs", status_code=201)
    def keep(which: OfDrawing) -> Kept:
        """Keep a finished image with its mask; sent again, it changes nothing."""
        found = workbench.find(which.drawing)
        if found.drawn is None:
            raise Refused(409, "this image is not finished")
        conditioning, columns = workbench.provenance(found)
        folder = saved_pairs.folder_of(workbench.params.study)
        name, pairs = saved_pairs.save(folder, workbench.real.spec, found.drawn.image, conditioning, columns)
        return Kept(id=name, pairs=pairs)


def state_of(drawing: Drawing) -> State:
    """Return what the page shows of a drawing."""
    state = State(done=drawing.done, steps=drawing.request.steps, error=drawing.error)
    drawn = drawing.drawn
    if drawn is None:
        if drawing.preview is not None:
            state.preview = _base64(drawing.preview)
        return state
    state.image = _base64(drawn.image)
    labels = drawn.judgement.labels
    state.predicted = None if labels is None else runs.encode(labels)
    state.dice, state.unjudged = drawn.judgement.dice, drawn.judgement.reason
    state.closest = [
        CloseImage(id=close.id, distance=close.distance, same=close.same, image=_base64(close.image))
        for close in drawn.closest
    ]
    return state


def _base64(image: NDArray[np.uint8]) -> str:
    """Return [C, H, W] as PNG in base64."""
    return base64.b64encode(png(image.transpose(1, 2, 0))).decode()


def _refusal(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    return _refusal(getattr(error, "status", 400), str(error))


async def _unusable(_request: Request, error: Exception) -> JSONResponse:
    return _refusal(409, str(error))


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Name the fields, and repeat nothing of what was sent."""
    faults: Any = error.errors() if isinstance(error, RequestValidationError) else []
    known = sorted({str(fault["loc"][1]) for fault in faults if len(fault["loc"]) > 1} & set(FIELDS))
    return _refusal(422, f"missing or out of bounds: {', '.join(known) or 'the request as a whole'}")


async def _unknown(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _refusal(status, "this page makes no such request")


FIELDS = (*DrawingRequest.model_fields, *OfDrawing.model_fields, "number")
HANDLERS: dict[type[Exception], Any] = {
    Refused: _refused,
    UserError: _unusable,
    RequestValidationError: _invalid,
    HTTPException: _unknown,
}
