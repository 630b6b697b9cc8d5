"""Parameters of `segformer`, apart from the method, so that a study is checked without loading torch."""

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import HubWeights

Four = tuple[int, int, int, int]  # one value per stage


class Params(Section):
    """Sizes of the mix transformer and of the decoder. The defaults are those of B0."""

    widths: Four = (32, 64, 160, 256)
    """Channels of the four stages of the encoder; the default is B0."""
    depths: Four = (2, 2, 2, 2)
    """Layers of the four stages of the encoder."""
    decoder_width: int = Field(default=256, gt=0)
    """Channels of the decoder; 768 for B2 to B5."""
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    """Largest probability of stochastic depth."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of dropout before the classifier."""
    weights: HubWeights = "none"
    """Initial weights of the encoder: `hub` (NVIDIA's, not for commercial use), `none`, or the path of a file, whose
    head is not used.
    """
