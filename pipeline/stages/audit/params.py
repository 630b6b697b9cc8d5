"""The section `audit` of a study: the search for copies of training images."""

from pydantic import Field

from pipeline.core.section import Section

OFFLINE = ("efficientnet_lite0", "gradient_histograms")  # feature extractors that need no download


class Audit(Section):
    """The search for copies of training images among synthetic ones."""

    extractors: tuple[str, ...] = ()  # feature spaces; none: the first two usable ones of score.extractors and OFFLINE
    false_alarms: float = Field(default=0.01, gt=0, lt=0.5)  # share of held-out images that may be called copies
    neighbours: int = Field(default=50, gt=1)  # nearest training images to whose mean the nearest is compared
    permutations: int = Field(default=2000, ge=200)
    pictures: int = Field(default=12, gt=0)  # closest pairs shown

    def candidate_extractors(self, scored: tuple[str, ...]) -> tuple[str, ...]:
        """Return the candidates for feature spaces in the order they are tried; `scored` is score.extractors."""
        return self.extractors or tuple(dict.fromkeys([*scored, *OFFLINE]))
