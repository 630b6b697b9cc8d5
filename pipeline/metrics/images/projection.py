"""Projection of feature rows to a plane, for display only; distances between far points mean nothing."""

import numpy as np
from numpy.typing import NDArray


def plane(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Project [N, D] to [N, 2] by t-SNE (van der Maaten & Hinton 2008) of the first 50 principal components; N >= 5."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(rows) < 5:
        raise ValueError(f"{len(rows)} rows are too few for a map")
    parts = min(50, *rows.shape)
    reduced = PCA(parts, svd_solver="full").fit_transform(rows.astype(np.float64))
    perplexity = min(30.0, (len(rows) - 1) / 4)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed % 2**32).fit_transform(reduced)
