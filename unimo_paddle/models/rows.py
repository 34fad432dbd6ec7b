"""Rows of encoded sequences: hidden before the stack, picked after it."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor


def hide_rows(features: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
    """Zero the hidden rows and let row 0 be the mean of the visible ones, which leaks nothing."""
    visible = ((1.0 - hidden) * mask)[:, 1:].unsqueeze(-1)
    shown = features[:, 1:] * visible
    count = paddle.maximum(visible.sum(axis=1, keepdim=True), paddle.ones([1], "float32"))
    return paddle.concat([shown.sum(axis=1, keepdim=True) / count, shown], axis=1)


def gather_positions(hidden: Tensor, positions: Tensor) -> Tensor:
    """The rows [B * P, D] of hidden [B, L, D] at positions [B, P]."""
    shape = paddle.shape(hidden).astype("int64")
    starts = paddle.arange(0, shape[0], dtype="int64").unsqueeze(1) * shape[1]
    flat = hidden.reshape([-1, hidden.shape[-1]])
    return paddle.gather(flat, (positions + starts).flatten())


def flatten_labels(labels: Tensor, positions: Tensor) -> Tensor:
    """Labels [B, P] -> [B * P], distributions [B, P, C] -> [B * P, C]."""
    is_distribution = len(labels.shape) > len(positions.shape)
    return labels.reshape([-1, labels.shape[-1]]) if is_distribution else labels.flatten()


def concat_rows(parts: Sequence[Tensor]) -> Tensor:
    """One tensor of the rows of all parts."""
    return paddle.concat(list(parts), axis=0) if len(parts) > 1 else parts[0]
