"""CIDEr and CIDEr-D of captions (Vedantam et al., 2015), on texts that are already split in words.

CIDEr-D (section 5) is what COCO's caption scorer, nlg-eval and most papers print as CIDEr. Each
text is a vector of its n-grams weighted by how rare they are among the images; a caption's score is
ten times its mean cosine with the references of its image, so it may exceed 1. CIDEr-D counts an
n-gram no more often than the reference has it, and takes from captions of another length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from unimo_paddle.errors import UserError

MAX_ORDER = 4
LENGTH_DEVIATION = 6.0  # of the bell that takes from a caption longer or shorter than its reference
SCALE = 10.0

Ngrams = Counter[tuple[str, ...]]


def cider_d(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> np.ndarray:
    """Return the CIDEr-D of each caption [S]; their mean is that of all.

    Args:
        hypotheses: [S] captions, each a list of words, of S images.
        references: [S] lists of references, each a list of words. How rare an n-gram is, is counted
            among these images.
    """
    return _scores("CIDEr-D", hypotheses, references)


def cider(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> np.ndarray:
    """Return the plain CIDEr of each caption [S], of words that are not stemmed.

    It is as the authors' program has it: ten times the mean cosine, so that it compares with
    CIDEr-D. The paper stems words. Arguments are those of ``cider_d``.
    """
    return _scores("CIDEr", hypotheses, references)


def _scores(
    name: Literal["CIDEr", "CIDEr-D"],
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
) -> np.ndarray:
    if len(hypotheses) != len(references) or not len(hypotheses):
        raise UserError(
            f"{name} of {len(hypotheses)} captions with references of {len(references)}; give "
            "references for each caption, and at least one caption"
        )
    if not all(len(texts) for texts in references):
        raise UserError(f"{name}: a caption has no reference; give each at least one")
    counted = [[_ngrams(text) for text in texts] for texts in references]
    num_images = Counter(ngram for texts in counted for ngram in set().union(*texts))
    weights = {ngram: math.log(len(references) / count) for ngram, count in num_images.items()}
    unseen = math.log(len(references))
    return np.array(
        [
            np.mean(
                [
                    _similarity(
                        _ngrams(caption), text, weights, unseen, is_guarded=name == "CIDEr-D"
                    )
                    for text in texts
                ]
            )
            for caption, texts in zip(hypotheses, counted, strict=True)
        ]
    )


def _similarity(
    caption: Ngrams,
    reference: Ngrams,
    weights: dict[tuple[str, ...], float],
    unseen: float,
    *,
    is_guarded: bool,
) -> float:
    """The mean over the orders of n-grams, scaled.

    Args:
        is_guarded: against captions that repeat words or have too many: CIDEr-D.
    """
    dots, squares, reference_squares = np.zeros((3, MAX_ORDER))
    for ngram, count in caption.items():
        weight = weights.get(ngram, unseen)
        squares[len(ngram) - 1] += (count * weight) ** 2
        counted = min(count, reference[ngram]) if is_guarded else count
        shared = counted * reference[ngram]
        dots[len(ngram) - 1] += shared * weight**2
    for ngram, count in reference.items():
        reference_squares[len(ngram) - 1] += (count * weights[ngram]) ** 2
    norms = np.sqrt(squares * reference_squares)
    cosines = np.divide(dots, norms, out=np.zeros(MAX_ORDER), where=norms > 0)
    if not is_guarded:
        return SCALE * float(cosines.mean())
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
