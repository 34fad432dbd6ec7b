"""Predictions beside what they should have been, as arrays of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unimo_paddle.errors import UserError


def paired(
    predictions: Sequence[Any] | np.ndarray, labels: Sequence[Any] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return both as [N] arrays; different lengths, and none at all, are errors."""
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or predictions.ndim != 1 or not len(labels):
        raise UserError(
            f"metric of predictions of shape {list(predictions.shape)} and labels of shape "
            f"{list(labels.shape)}; give one label for each prediction, and at least one"
        )
    return predictions, labels
