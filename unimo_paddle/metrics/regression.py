"""Correlations of predicted with true numbers.

Each takes predictions and labels, [N] numbers, and returns a correlation from -1 to 1. It is 0
where either side is constant, of which no correlation is defined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unimo_paddle.metrics.pairs import paired


def pearson(
    predictions: Sequence[float] | np.ndarray, labels: Sequence[float] | np.ndarray
) -> float:
    """Return Pearson's correlation: how linear the relation is."""
    return _correlation("pearsonr", predictions, labels)


def spearman(
    predictions: Sequence[float] | np.ndarray, labels: Sequence[float] | np.ndarray
) -> float:
    """Return Spearman's correlation: Pearson's of the ranks, equal numbers sharing their mean."""
    return _correlation("spearmanr", predictions, labels)


def pearson_and_spearman(
    predictions: Sequence[float] | np.ndarray, labels: Sequence[float] | np.ndarray
) -> dict[str, float]:
    """Return ``pearson``, ``spearman`` and their mean ``pearson_and_spearman``."""
    values = {
        "pearson": pearson(predictions, labels),
        "spearman": spearman(predictions, labels),
    }
    return {**values, "pearson_and_spearman": 0.5 * sum(values.values())}


def _correlation(
    name: str,
    predictions: Sequence[float] | np.ndarray,
    labels: Sequence[float] | np.ndarray,
) -> float:
    # Imported here, for that takes seconds and most programs need none of it.
    from scipy import stats

    pair = [np.asarray(side, np.float64) for side in paired(predictions, labels)]
    if any((side == side[0]).all() for side in pair):
        return 0.0
    return float(getattr(stats, name)(*pair)[0])
