"""Types of arrays that the metrics of image sets share."""

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]  # [n, D], one row per image
Array = NDArray[np.float64]
