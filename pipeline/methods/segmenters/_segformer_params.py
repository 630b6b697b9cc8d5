"""Parameters of `segformer`, apart from the method, so that a study is checked without loading torch."""

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import HubWeights

Four = tuple[int, int, int, int]  # one value per stage


class Params(Section):
    """Size of the mix transformer (one value per stage) and of the decoder; B0 by default."""

    widths: Four = (32, 64, 160, 256)
    depths: Four = (2, 2, 2, 2)
    decoder_width: int = Field(default=256, gt=0)  # 768 for B2 to B5
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)  # before the classifier
    weights: HubWeights = "none"  # hub: NVIDIA's, not for commercial use; a path: a file, its head is not used
