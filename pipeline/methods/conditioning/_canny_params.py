"""Parameters of `canny`, apart from the method, so that a study is checked without loading torch."""

from typing import Self

from pydantic import Field, model_validator

from pipeline.methods.conditioning._lines_params import Lines


class Params(Lines):
    """Thresholds of the edge detector, and which of its lines are shown."""

    low: int = Field(default=100, ge=0)
    """Lower threshold of the gradient's magnitude, in grey levels."""
    high: int = Field(default=200, gt=0)
    """Upper threshold of the gradient's magnitude, in grey levels."""

    @model_validator(mode="after")
    def low_is_below_high(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} exceeds high {self.high}")
        return self
