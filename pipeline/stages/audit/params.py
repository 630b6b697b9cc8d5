"""The section `audit` of a study: the search for copies of training images."""

from pydantic import Field

from pipeline.core.section import Section


class Audit(Section):
    """The search for copies of training images among synthetic ones."""

    extractors: tuple[str, ...] = ()  # feature spaces; none: the first two of score.extractors and extractors.OFFLINE
    false_alarms: float = Field(default=0.01, gt=0, lt=0.5)  # share of held-out images that may be called copies
    neighbours: int = Field(default=50, gt=1)  # nearest training images to whose mean the nearest is compared
    permutations: int = Field(default=2000, ge=200)
    pictures: int = Field(default=12, gt=0)  # closest pairs shown
