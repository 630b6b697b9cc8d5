"""Where initial weights of encoders may come from, as parameters name it. No torch."""

from pathlib import Path
from typing import Literal

from pipeline.networks.packaged_efficientnet import ARCHITECTURE

PACKAGED = f"tu-{ARCHITECTURE}"
HubWeights = Literal["hub", "none"] | Path  # hub: the library's own download, kept in its cache
PackagedWeights = Literal["packaged", "hub", "none"] | Path  # packaged: ImageNet; a path: the encoder's tensors
