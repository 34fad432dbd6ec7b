"""Rows of encoded sequences: hidden before the stack, picked after it."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor

NUM_PLACES = 3  # along a side of the image
PLACE_WIDTH = 1.0 / 6.0  # deviation of a place's bell: half the way to its neighbour


def count_rows(rows: Tensor) -> int | Tensor:
    """The length L of rows [B, L, D]: a number where the graph knows it, else a tensor."""
    length = rows.shape[1]
    return length if length >= 0 else paddle.shape(rows)[1]


def hide_rows(features: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
    """Zero the hidden rows and let row 0 be the mean of the visible ones, which leaks nothing."""
    visible = ((1.0 - hidden) * mask)[:, 1:].unsqueeze(-1)
    shown = features[:, 1:] * visible
    count = paddle.maximum(visible.sum(axis=1, keepdim=True), paddle.ones([1], "float32"))
    return paddle.concat([shown.sum(axis=1, keepdim=True) / count, shown], axis=1)


def pool_rows(hidden: Tensor, weights: Tensor) -> Tensor:
    """The mean [B, D] of hidden [B, L, D] by weights [B, L]; a mask gives that of the real rows."""
    weights = weights.unsqueeze(-1)
    return (hidden * weights).sum(axis=1) / weights.sum(axis=1)


def pool_places(hidden: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
    """The mean of all rows, then the means around 3 x 3 places of the image: [B, 10 * D].

    The mean alone hardly tells what stands where: a row adds up content and place, and such sums
    over an image know nothing of each other. A row counts for a place by a bell of its distance
    from the centre of the row's box; row 0, the whole image, counts for none.

    Args:
        hidden: [B, R, D]; boxes: [B, R, 5]; mask: [B, R].
    """
    centres = 0.5 * (boxes[:, :, 0:2] + boxes[:, :, 2:4])
    ticks = [(2 * i + 1) / (2 * NUM_PLACES) for i in range(NUM_PLACES)]
    places = paddle.to_tensor([[x, y] for y in ticks for x in ticks], "float32")
    distances = ((centres.unsqueeze(1) - places.unsqueeze(1)) ** 2).sum(axis=-1)  # [B, 9, R]
    is_part = paddle.concat([paddle.zeros_like(mask[:, :1]), mask[:, 1:]], axis=1).unsqueeze(1)
    weights = paddle.exp(-distances / (2.0 * PLACE_WIDTH**2)) * is_part
    total = weights.sum(axis=-1, keepdim=True)
    weights = weights / paddle.maximum(total, paddle.full([1], 1e-6))
    means = paddle.matmul(weights, hidden).flatten(1)
    return paddle.concat([pool_rows(hidden, mask), means], axis=1)


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
