"""The feature spaces of the audit."""

from pipeline.stages.audit.params import Audit
from pipeline.stages.score.params import Score

OFFLINE = ("efficientnet_lite0", "gradient_histograms")  # feature extractors that need no download


def candidate_extractors(audit: Audit, score: Score) -> tuple[str, ...]:
    """Return the candidates for the audit's feature spaces, in the order in which they are tried."""
    return audit.extractors or tuple(dict.fromkeys([*score.extractors, *OFFLINE]))
