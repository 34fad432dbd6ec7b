"""Mean reciprocal rank and mean average precision of scored candidates.

Both take one entry a candidate: the query that it belongs to, its score, and whether it is right
(not 0). The queries may come in any order. A query without a right candidate counts 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.original import Compatibility, is_original


def mean_reciprocal_rank(
    queries: Sequence[Any] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    *,
    compatibility: Compatibility = "standard",
) -> float:
    """Return the mean over queries of 1 / (rank, from 1, of the best right candidate).

    Of equal scores the wrong candidates rank first; the original keeps their given order.
    """
    rows = _ranked(queries, scores, labels, compatibility)
    return float(np.mean([1.0 / (row.argmax() + 1) if row.any() else 0.0 for row in rows]))


def mean_average_precision(
    queries: Sequence[Any] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    *,
    compatibility: Compatibility = "standard",
) -> float:
    """Return the mean over queries of the mean precision at the ranks of the right candidates.

    Of equal scores the wrong candidates rank first; the original keeps their given order.
    """
    rows = _ranked(queries, scores, labels, compatibility)
    return float(np.mean([_average_precision(row) for row in rows]))


def _average_precision(is_right: np.ndarray) -> float:
    if not is_right.any():
        return 0.0
    precision = np.cumsum(is_right) / np.arange(1, len(is_right) + 1)
    return float(precision[is_right].mean())


def _ranked(
    queries: Sequence[Any] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    compatibility: Compatibility,
) -> list[np.ndarray]:
    """For each query whether its candidates are right, best first."""
    queries, scores, is_right = np.asarray(queries), np.asarray(scores), np.asarray(labels) != 0
    if not len(queries) == len(scores) == len(is_right) or not len(queries):
        raise UserError(
            f"ranking of {len(queries)} queries, {len(scores)} scores and {len(is_right)} labels; "
            "give one of each a candidate, and at least one candidate"
        )
    _, index = np.unique(queries, return_inverse=True)
    ties = np.zeros(len(scores)) if is_original(compatibility) else is_right
    order = np.lexsort((ties, -scores, index))  # stable; the last key is the first criterion
    return np.split(is_right[order], np.cumsum(np.bincount(index))[:-1])
