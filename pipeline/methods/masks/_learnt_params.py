"""Parameters of the learnt masks; apart from the code that needs torch."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.core.section import Section


class Params(Section):
    """How the model of masks is trained, and how far its masks depart from the training masks."""

    learns: ClassVar[bool] = True  # a model is trained before the first mask is drawn
    steps: int = Field(default=500, ge=1, le=100_000)
    """Optimiser steps of the training, of 32 masks each."""
    width: int = Field(default=16, ge=8, le=256, multiple_of=8)
    """Channels of the first level of the network; later levels have twice as many."""
    grid: Literal[32, 64] = 32
    """Side of the grid of distances that is learnt. 64 shows finer outlines and takes four times as long."""
    flips: bool = True
    """Learn from mirrored masks too. `false` keeps left and right, up and down, as organs need it."""
    bandwidth: float = Field(default=0.2, ge=0, le=1)
    """Width of the kernel from which areas, places and aspects are drawn, in standard deviations over the training
    masks.
    """
    alike: float = Field(default=0.05, ge=0, lt=1)
    """Share of the training masks that count as too alike to another one. A mask that is as alike to a training mask is
    drawn again. 0 refuses only masks that are more alike to a training mask than any two of these to each other.
    """
    tries: int = Field(default=20, ge=1, le=1000)
    """Masks that are drawn for each one; afterwards the best of them is taken."""
