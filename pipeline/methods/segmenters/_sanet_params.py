"""Parameters of `sanet`, apart from the method, so that a study is checked without loading torch."""

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import HubWeights


class Params(Section):
    """Initial weights of the encoder, and the components of the paper that are used."""

    weights: HubWeights = "hub"
    """Initial weights of the encoder: `hub`, `none`, or the path of the authors' or timm's file of Res2Net-50 v1b."""
    multi_scale: bool = True
    """Train on four sizes."""
    colour_exchange: bool = True
    """Give each training image the mean and spread of another one's colours. It needs colour images."""
    colour_references: dict[str, float] = Field(default_factory=dict)
    """Probability with which each source lends its colours. Empty: any real training image."""
    probability_correction: bool = True
    """Amplify the rarer sign of the predicted log-odds, as the paper does. It never changes which of two classes wins.
    """
