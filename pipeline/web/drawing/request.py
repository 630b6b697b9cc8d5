"""What the page asks for: a mask, a generator, and the settings of one image."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PIXELS = 1024 * 1024  # of the largest mask, and so of its runs
Run = tuple[Annotated[int, Field(ge=0, le=254)], Annotated[int, Field(ge=1, le=PIXELS)]]


class DrawingRequest(BaseModel):
    """One image to draw."""

    model_config = ConfigDict(extra="forbid")
    runs: list[Run] = Field(min_length=1, max_length=100_000)  # label and number of pixels, row by row
    generator: str = Field(min_length=1, max_length=200)
    seed: int = Field(ge=0, le=2**31 - 1)
    steps: int = Field(ge=1, le=1000)
    guidance_scale: float = Field(ge=1, le=50, allow_inf_nan=False)
    control_scale: float = Field(ge=0, le=4, allow_inf_nan=False)
    source: str | None = Field(default=None, max_length=500)  # the training image whose mask this was at first
