"""Vectors of words by latent semantic analysis of what is said of the same image.

Deerwester et al. 1990: the strongest directions of the words-by-documents counts. A document is all
that is said of one image, so that words are alike which describe the same images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COMMON = 3.0  # last number of every vector, and the only one of a word that every document has
UNSEEN = 0.02  # standard deviation of words that were never read


def latent_words(documents: Sequence[Sequence[int]], vocab_size: int, width: int) -> np.ndarray:
    """Vectors [vocab_size, width] of the words of documents, which are lists of word numbers.

    Word by word a vector is scaled by how rare the word is; the last column is the same for all,
    so that after a layer norm a word in every document says little and a rare one much.
    The root mean square of the strongest is 1.
    """
    from scipy import sparse
    from sklearn.decomposition import TruncatedSVD

    rows = np.repeat(np.arange(len(documents)), [len(set(words)) for words in documents])
    columns = np.array([word for words in documents for word in sorted(set(words))], np.int64)
    ones = np.ones(len(rows))
    counts = sparse.csr_matrix((ones, (rows, columns)), (len(documents), vocab_size))
    frequency = np.asarray(counts.sum(axis=0)).ravel()
    rarity = np.log(len(documents) / np.maximum(frequency, 1.0)) * (frequency > 0)
    size = max(1, min(width - 1, len(documents) - 1, vocab_size))
    found = TruncatedSVD(size, random_state=0).fit(counts.multiply(rarity).tocsr())
    vectors = np.random.default_rng(0).normal(0.0, UNSEEN, (vocab_size, width))
    known = found.components_.T * rarity[:, None]
    strongest = np.sqrt((known**2).sum(axis=1).max())
    seen = frequency > 0
    vectors[seen, :-1] = 0.0
    vectors[seen, :size] = known[seen] * (np.sqrt(width) / max(strongest, 1e-12))
    vectors[:, -1] = COMMON
    return vectors.astype(np.float32)
