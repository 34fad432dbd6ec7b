"""Accuracy, F1 and Matthews' correlation of predicted classes.

Each takes predictions and labels, [N] class ids (or names), and returns a share or correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unimo_paddle.metrics.original import Compatibility, is_original
from unimo_paddle.metrics.pairs import paired

POSITIVE_CLASS = 1
ORIGINAL_F1_EPSILON = 1e-8  # what the original adds to precision + recall


def accuracy(predictions: Sequence[Any] | np.ndarray, labels: Sequence[Any] | np.ndarray) -> float:
    """Return the share of predictions that are right."""
    predictions, labels = paired(predictions, labels)
    return float((predictions == labels).mean())


def f1(
    predictions: Sequence[int] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    *,
    compatibility: Compatibility = "standard",
) -> float:
    """Return the harmonic mean of precision and recall of class 1; any other class is negative.

    It is 0 where the class is neither predicted nor true. The original adds 1e-8 to the
    denominator, precision + recall.
    """
    epsilon = ORIGINAL_F1_EPSILON if is_original(compatibility) else 0.0
    predictions, labels = paired(predictions, labels)
    is_predicted, is_true = predictions == POSITIVE_CLASS, labels == POSITIVE_CLASS
    num_right = int((is_predicted & is_true).sum())
    if num_right == 0:
        return 0.0
    # Not scikit-learn's: a call takes it a millisecond, and an interval needs a thousand.
    precision, recall = num_right / int(is_predicted.sum()), num_right / int(is_true.sum())
    return 2.0 * precision * recall / (precision + recall + epsilon)


def accuracy_and_f1(
    predictions: Sequence[int] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    *,
    compatibility: Compatibility = "standard",
) -> dict[str, float]:
    """Return ``accuracy``, ``f1`` of class 1, and their mean ``accuracy_and_f1``."""
    values = {
        "accuracy": accuracy(predictions, labels),
        "f1": f1(predictions, labels, compatibility=compatibility),
    }
    return {**values, "accuracy_and_f1": 0.5 * sum(values.values())}


def matthews(predictions: Sequence[Any] | np.ndarray, labels: Sequence[Any] | np.ndarray) -> float:
    """Return Matthews' correlation coefficient, of two or more classes, from -1 to 1.

    It is 0 where all predictions, or all labels, are one class: the formula gives 0/0 there, and
    the original NaN.
    """
    # Imported here, for that takes seconds and most programs need none of it.
    from sklearn.metrics import matthews_corrcoef

    predictions, labels = paired(predictions, labels)
    if len(np.unique(predictions)) == 1 or len(np.unique(labels)) == 1:
        return 0.0
    return float(matthews_corrcoef(labels, predictions))
