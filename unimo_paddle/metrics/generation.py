"""BLEU of generated texts (Papineni et al., 2002), on texts that are already split into words.

Beside the standard measure there is the original program's, whose brevity penalty exceeds 1 where
a corpus is as long as its references, and whose reference length is that of the shortest one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.original import Compatibility, is_original

MAX_ORDER = 4
ORIGINAL_RATIO_EPSILON = 1e-4  # what the original adds to the ratio of lengths


@dataclass(frozen=True)
class Bleu:
    """BLEU of a corpus with what it is made of."""

    scores: tuple[float, ...]  # BLEU-1 to BLEU-N, from 0 to 1
    precisions: tuple[float, ...]  # of n-grams of 1 to N words
    brevity_penalty: float  # 1 unless the texts are shorter than their references
    length_ratio: float  # words of the texts over words of the references
    hypothesis_length: int  # words of all texts
    reference_length: int  # words of one reference a text

    @property
    def score(self) -> float:
        """BLEU-N, which is what is meant by BLEU."""
        return self.scores[-1]


def corpus_bleu(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    max_order: int = MAX_ORDER,
    smooth: bool = False,
    compatibility: Compatibility = "standard",
) -> Bleu:
    """Return the BLEU of texts against one or more references each.

    Args:
        hypotheses: [S] texts, each a list of words.
        references: [S] lists of references, each a list of words.
        smooth: add one to matches and candidates of every order (Lin and Och, 2004, but for single
            words too, as the original does).
    """
    counts = sentence_counts(
        hypotheses, references, max_order=max_order, compatibility=compatibility
    )
    return bleu_of_counts(counts, smooth=smooth, compatibility=compatibility)


def sentence_counts(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    max_order: int = MAX_ORDER,
    compatibility: Compatibility = "standard",
) -> np.ndarray:
    """Return what BLEU adds up over texts: [S, 2 + 2N] int64, by columns.

    Words of the text, words of its reference, matches of order 1 to N, n-grams of order 1 to N.
    An interval draws these rows again and counts nothing anew:
    ``interval(lambda counts: bleu_of_counts(counts).score, counts, seed=0)``. The reference whose
    length counts is the one closest to the text's, the shorter of two; for the original the
    shortest.
    """
    if len(hypotheses) != len(references) or not len(hypotheses):
        raise UserError(
            f"BLEU of {len(hypotheses)} texts with references of {len(references)}; give "
            "references for each text, and at least one text"
        )
    takes_shortest = is_original(compatibility)
    counts = np.zeros((len(hypotheses), 2 + 2 * max_order), np.int64)
    for i, (row, hypothesis, texts) in enumerate(zip(counts, hypotheses, references, strict=True)):
        if isinstance(hypothesis, str) or not len(texts) or isinstance(texts[0], str):
            raise UserError(
                f"BLEU: text {i} is {hypothesis!r} with references {texts!r}; give a list of words "
                "and a list of references, each a list of words"
            )
        lengths = sorted(len(text) for text in texts)
        closest = min(lengths, key=lambda length: abs(length - len(hypothesis)))
        row[:2] = len(hypothesis), lengths[0] if takes_shortest else closest
        for order in range(1, max_order + 1):
            found = _ngrams(hypothesis, order)
            allowed: Counter[tuple[str, ...]] = Counter()
            for text in texts:
                allowed |= _ngrams(text, order)  # the largest count that any reference has
            row[1 + order] = (found & allowed).total()
            row[1 + max_order + order] = found.total()
    return counts


def bleu_of_counts(
    counts: np.ndarray, *, smooth: bool = False, compatibility: Compatibility = "standard"
) -> Bleu:
    """Return the BLEU of the texts whose ``sentence_counts`` are given. Shape [S, 2 + 2N]."""
    total = np.asarray(counts).sum(axis=0)
    hypothesis_length, reference_length = int(total[0]), int(total[1])
    matches, candidates = np.split(total[2:], 2)
    precisions = [
        (match + smooth) / (candidate + smooth) if candidate + smooth else 0.0
        for match, candidate in zip(matches.tolist(), candidates.tolist(), strict=True)
    ]
    ratio = hypothesis_length / reference_length if reference_length else math.inf
    penalty = _brevity_penalty(ratio, compatibility)
    means = [
        math.exp(sum(map(math.log, precisions[:order])) / order) if all(precisions[:order]) else 0.0
        for order in range(1, len(precisions) + 1)
    ]
    return Bleu(
        scores=tuple(penalty * mean for mean in means),
        precisions=tuple(precisions),
        brevity_penalty=penalty,
        length_ratio=ratio,
        hypothesis_length=hypothesis_length,
        reference_length=reference_length,
    )


def _brevity_penalty(ratio: float, compatibility: Compatibility) -> float:
    if is_original(compatibility):
        return 1.0 if ratio > 1.0 else math.exp(1.0 - 1.0 / (ratio + ORIGINAL_RATIO_EPSILON))
    if ratio >= 1.0:
        return 1.0
    return math.exp(1.0 - 1.0 / ratio) if ratio else 0.0


def _ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))
