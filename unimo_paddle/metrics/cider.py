"""CIDEr-D of captions (Vedantam et al., 2015, section 5), on texts that are already split in words.

It is what COCO's caption scorer and most papers print as CIDEr. Each text is a vector of its
n-grams weighted by how rare they are among the images; a caption's score is ten times its mean
cosine with the references of its image, so it may exceed 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from unimo_paddle.errors import UserError

MAX_ORDER = 4
LENGTH_DEVIATION = 6.0  # of the bell that takes from a caption longer or shorter than its reference
SCALE = 10.0

Ngrams = Counter[tuple[str, ...]]


def cider_d(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> np.ndarray:
    """Return the score of each caption [S]; their mean is the CIDEr-D of all.

    Args:
        hypotheses: [S] captions, each a list of words, of S images.
        references: [S] lists of references, each a list of words. How rare an n-gram is, is counted
            among these images.
    """
    if len(hypotheses) != len(references) or not len(hypotheses):
        raise UserError(
            f"CIDEr-D of {len(hypotheses)} captions with references of {len(references)}; give "
            "references for each caption, and at least one caption"
        )
    if not all(len(texts) for texts in references):
        raise UserError("CIDEr-D: a caption has no reference; give each at least one")
    counted = [[_ngrams(text) for text in texts] for texts in references]
    num_images = Counter(ngram for texts in counted for ngram in set().union(*texts))
    weights = {ngram: math.log(len(references) / count) for ngram, count in num_images.items()}
    unseen = math.log(len(references))
    return np.array(
        [
            np.mean([_similarity(_ngrams(caption), text, weights, unseen) for text in texts])
            for caption, texts in zip(hypotheses, counted, strict=True)
        ]
    )


def _similarity(
    caption: Ngrams, reference: Ngrams, weights: dict[tuple[str, ...], float], unseen: float
) -> float:
    """The mean over the orders of n-grams, scaled."""
    dots, squares, reference_squares = np.zeros((3, MAX_ORDER))
    for ngram, count in caption.items():
        weight = weights.get(ngram, unseen)
        squares[len(ngram) - 1] += (count * weight) ** 2
        # No n-gram counts more often than it is in the reference.
        shared = min(count, reference[ngram]) * reference[ngram]
        dots[len(ngram) - 1] += shared * weight**2
    for ngram, count in reference.items():
        reference_squares[len(ngram) - 1] += (count * weights[ngram]) ** 2
    norms = np.sqrt(squares * reference_squares)
    cosines = np.divide(dots, norms, out=np.zeros(MAX_ORDER), where=norms > 0)
    # COCO's scorer measures length in pairs of words.
    difference = _num_pairs(caption) - _num_pairs(reference)
    bell = math.exp(-(difference**2) / (2 * LENGTH_DEVIATION**2))
    return SCALE * float(cosines.mean()) * bell


def _num_pairs(ngrams: Ngrams) -> int:
    return sum(count for ngram, count in ngrams.items() if len(ngram) == 2)


def _ngrams(words: Sequence[str]) -> Ngrams:
    return Counter(
        tuple(words[i : i + order])
        for order in range(1, MAX_ORDER + 1)
        for i in range(len(words) - order + 1)
    )
