"""Parameters of `sanet`, apart from the method, so that a study is checked without loading torch."""

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import HubWeights


class Params(Section):
    """Initial weights of the encoder, and which of the paper's components are used."""

    weights: HubWeights = "hub"  # a path: the authors' or timm's file of Res2Net-50 v1b
    multi_scale: bool = True
    colour_exchange: bool = True
    colour_references: dict[str, float] = Field(
        default_factory=dict
    )  # probability of each source; empty: any real image
    probability_correction: bool = True  # of predictions; never changes which of two classes wins
