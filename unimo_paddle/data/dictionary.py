"""The entries of a dictionary of patches, found by k-means among pieces of images.

Pieces are whitened first ("An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
Coates, Ng and Lee 2011): as they come, they differ in brightness before anything else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unimo_paddle.errors import UserError

KMEANS_BATCH = 4096
KMEANS_PASSES = 15
VARIANCE_FLOOR = 0.1  # added to variances, as a share of their mean: noise is not made loud


class Dictionary(NamedTuple):
    """Entries [K, F] among rows x [N, F] that were whitened to x weight + bias."""

    weight: np.ndarray
    bias: np.ndarray
    entries: np.ndarray


def fit_dictionary(rows: np.ndarray, size: int, seed: int) -> Dictionary:
    """Find ``size`` typical ones of rows [N, F]; the same rows give the same entries."""
    if len(rows) < size:
        raise UserError(
            f"the images show {len(rows)} pieces, fewer than the {size} entries of "
            "model.patch_dictionary; give more images or lower it"
        )
    # Imported here: a second of start-up that only this function needs.
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    # One thread: sums in another order would give other entries.
    with threadpool_limits(limits=1):
        mean = rows.mean(axis=0)
        centred = rows - mean
        variances, directions = np.linalg.eigh(centred.T @ centred / len(rows))
        scale = (np.maximum(variances, 0) + VARIANCE_FLOOR * variances.mean()) ** -0.5
        weight = (directions * scale) @ directions.T
        kmeans = MiniBatchKMeans(
            size, random_state=seed, n_init=1, batch_size=KMEANS_BATCH, max_iter=KMEANS_PASSES
        ).fit(centred @ weight)
    arrays = (weight, -mean @ weight, kmeans.cluster_centers_)
    return Dictionary(*(array.astype(np.float32) for array in arrays))
