"""Visual words: classes of patches by k-means, for region classification without a detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unimo_paddle.errors import ARCHIVE_DAMAGES, UserError

# Batches of k-means; larger ones are steadier, and this many rows stay quick.
KMEANS_BATCH = 4096
# Added to variances before division, as a share of their mean: constant directions stay quiet.
VARIANCE_FLOOR = 1e-3
_NAMES = ("projection", "bias", "centres")


@dataclass(frozen=True)
class VisualWords:
    """A vocabulary of patches; the nearest centre after a linear whitening is the word.

    Args:
        projection: [F, K] and
        bias: [K] such that the word is the largest entry of ``features @ projection + bias``.
        centres: [K, F] mean patch of each word in the space of the features, for pictures.
    """

    projection: np.ndarray
    bias: np.ndarray
    centres: np.ndarray

    @property
    def num_words(self) -> int:
        """Number of classes K."""
        return len(self.bias)

    @classmethod
    def fit(
        cls,
        patches: np.ndarray,
        num_words: int,
        seed: int,
        *,
        num_components: int = 64,
        whitening: float = 0.5,
    ) -> VisualWords:
        """Find ``num_words`` classes among patches [N, F].

        The patches are projected to their ``num_components`` principal directions, whose standard
        deviations are raised to the power 1 - ``whitening``: raw pixels (0) differ mostly in
        brightness, fully whitened ones (1) mostly in noise; half way, words mean colour and edge.
        """
        patches = np.asarray(patches, np.float32)
        if num_words < 2 or len(patches) < num_words:
            raise UserError(
                f"num_words {num_words} must be at least 2 and at most the {len(patches)} patches "
                "given; give more images or ask for fewer words"
            )
        if not np.isfinite(patches).all():
            raise UserError("patches for visual words hold a value that is not a finite number")
        # Imported here: a second of start-up that only this function needs.
        from sklearn.cluster import MiniBatchKMeans
        from threadpoolctl import threadpool_limits

        # One thread: sums in another order would give other words.
        with threadpool_limits(limits=1):
            mean = patches.mean(axis=0)
            basis = _whitened_basis(patches - mean, num_components, whitening)
            codes = (patches - mean) @ basis
            kmeans = MiniBatchKMeans(
                num_words, random_state=seed, n_init=1, batch_size=KMEANS_BATCH, max_iter=30
            ).fit(codes)
        centres = kmeans.cluster_centers_.astype(np.float32)
        # |x - c|^2 = |x|^2 - 2 (x.c - |c|^2 / 2) with x = (patch - mean) basis.
        projection = basis @ centres.T
        bias = -0.5 * (centres**2).sum(axis=1) - mean @ projection
        words = (patches @ projection + bias).argmax(axis=1)
        return cls(projection, bias, _mean_patches(patches, words, num_words, mean))

    def assign(self, features: np.ndarray) -> np.ndarray:
        """Words [R] int64 of features [R, F]."""
        return (features @ self.projection + self.bias).argmax(axis=1)

    def save(self, path: Path | str) -> None:
        """Write the vocabulary as a NumPy archive; ``path`` ends in .npz."""
        np.savez(path, **{name: getattr(self, name) for name in _NAMES})

    @classmethod
    def load(cls, path: Path | str) -> VisualWords:
        """Read what ``save`` wrote; nothing in the file is executed."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                words = cls(*(arrays[name] for name in _NAMES))
            size, num_words = words.projection.shape
        except OSError as error:
            raise UserError(f"visual words {path} cannot be read: {error.strerror}") from None
        except ARCHIVE_DAMAGES:
            raise UserError(
                f"visual words {path} are damaged or of another kind; make them again"
            ) from None
        shapes = words.bias.shape, words.centres.shape
        is_real = all(getattr(words, name).dtype.kind == "f" for name in _NAMES)
        if shapes != ((num_words,), (num_words, size)) or not is_real:
            raise UserError(f"visual words {path} hold arrays that do not fit; make them again")
        return words


def _whitened_basis(centred: np.ndarray, num_components: int, whitening: float) -> np.ndarray:
    """Scaled principal directions [F, P] of centred rows [N, F]."""
    covariance = centred.T @ centred / len(centred)
    variances, directions = np.linalg.eigh(covariance)
    kept = np.argsort(variances)[::-1][:num_components]
    # A direction's sign is arbitrary; distances do not depend on it.
    variances = np.maximum(variances[kept], 0)
    floor = VARIANCE_FLOOR * variances.mean() + np.finfo(np.float32).tiny
    scale = (variances + floor) ** (-0.5 * whitening)
    return (directions[:, kept] * scale).astype(np.float32)


def _mean_patches(
    patches: np.ndarray, words: np.ndarray, num_words: int, mean: np.ndarray
) -> np.ndarray:
    """Mean patch [K, F] of each word; a word without patches shows the mean of all."""
    centres = np.tile(mean, (num_words, 1))
    for word in np.unique(words):
        centres[word] = patches[words == word].mean(axis=0)
    return centres
