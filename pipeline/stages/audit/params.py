"""The section `audit` of a study: the search for copies of training images."""

from pydantic import Field

from pipeline.core.section import Section

OFFLINE = ("efficientnet_lite0", "gradient_histograms")  # feature extractors that need no download


class Audit(Section):
    """The search for copies of training images among synthetic ones."""

    extractors: tuple[str, ...] = ()
    """Feature spaces of the search. Empty: the first two of `score.extractors`, `efficientnet_lite0` and
    `gradient_histograms` whose weights are available.
    """
    false_alarms: float = Field(default=0.01, gt=0, lt=0.5)
    """Share of held-out real images that may be called copies by mistake."""
    neighbours: int = Field(default=50, gt=1)
    """Number of nearest training images to whose mean distance the nearest one is compared."""
    permutations: int = Field(default=2000, ge=200)
    """Permutations of the test whether synthetic images lie nearer to the training images than held-out ones do."""
    pictures: int = Field(default=12, gt=0)
    """Closest pairs that the report shows."""

    def candidate_extractors(self, scored: tuple[str, ...]) -> tuple[str, ...]:
        """Return the candidates for feature spaces in the order they are tried; `scored` is score.extractors."""
        return self.extractors or tuple(dict.fromkeys([*scored, *OFFLINE]))
