"""Contrastive similarity: log-sum-exps over all and over positive pairs, by row and by column.

The score matrix is never stored whole: memory grows with the number of rows and columns, not with
their product. ``csrc/contrastive/contrastive.h`` states the mathematics and the cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import paddle

from unimo_paddle.errors import UserError
from unimo_paddle.ops.library import check_tensor, run_operator

_FLOATS = ("float32", "float16", "bfloat16")


class ContrastiveStatistics(NamedTuple):
    """Log-sum-exps of the scores; -inf, without gradient, over nothing."""

    row_all: paddle.Tensor  # [N] over the columns that are not ignored
    row_positive: paddle.Tensor  # [N] over the positive columns
    column_all: paddle.Tensor  # [M] over the rows that are not ignored
    column_positive: paddle.Tensor  # [M] over the positive rows


def contrastive_logsumexp(
    rows: paddle.Tensor,
    columns: paddle.Tensor,
    temperature: paddle.Tensor,
    row_group: paddle.Tensor,
    column_group: paddle.Tensor,
    row_duplicate: paddle.Tensor,
    column_duplicate: paddle.Tensor,
) -> ContrastiveStatistics:
    """Return the four log-sum-exps of the scores <rows_i, columns_j> / temperature, in float32.

    Gradients reach rows, columns and temperature. Half precision features are widened on entry.

    Args:
        rows: [N, D] float32, float16 or bfloat16.
        columns: [M, D], same types.
        temperature: [1] float32, positive.
        row_group: [N] int64; a pair of equal groups is positive.
        column_group: [M] int64.
        row_duplicate: [N] int64; a pair of equal duplicates whose groups differ is ignored, for it
            is no true negative. -1 equals nothing.
        column_duplicate: [M] int64.
    """
    _check(rows, columns, temperature, (row_group, row_duplicate), (column_group, column_duplicate))
    *sums, _ = run_operator(  # the last output is what the backward pass reuses
        "unimo_contrastive_logsumexp",
        rows.astype("float32"),
        columns.astype("float32"),
        temperature,
        row_group,
        column_group,
        row_duplicate,
        column_duplicate,
    )
    return ContrastiveStatistics(*sums)


def one_way_contrastive_loss(
    rows: paddle.Tensor,
    columns: paddle.Tensor,
    temperature: paddle.Tensor,
    row_group: paddle.Tensor,
    column_group: paddle.Tensor,
    row_duplicate: paddle.Tensor,
    column_duplicate: paddle.Tensor,
    weights: paddle.Tensor,
) -> paddle.Tensor:
    """Return sum_i weights_i (row_all_i - row_positive_i) [1] over the rows with a positive.

    Equal to the composition of ``contrastive_logsumexp``, in three matrix products instead of
    four, for the gradients are found while the scores are at hand. In a graph that asks for no
    gradient the composition costs less. A Paddle built for GPUs takes the composition.
    It is for losses of a user's own; nothing in this package calls it.

    Args:
        weights: [N] float32, constants; the others as for ``contrastive_logsumexp``.
    """
    _check(rows, columns, temperature, (row_group, row_duplicate), (column_group, column_duplicate))
    check_tensor(
        "one_way_contrastive_loss", "weights", weights, shape=(rows.shape[0],), dtypes=("float32",)
    )
    inputs = (temperature, row_group, column_group, row_duplicate, column_duplicate)
    if paddle.is_compiled_with_cuda():
        return _composed_one_way(contrastive_logsumexp, rows, columns, *inputs, weights)
    features = (rows.astype("float32"), columns.astype("float32"))
    return run_operator("unimo_contrastive_one_way", *features, *inputs, weights)[0]


def one_way_contrastive_loss_reference(
    rows: paddle.Tensor,
    columns: paddle.Tensor,
    temperature: paddle.Tensor,
    row_group: paddle.Tensor,
    column_group: paddle.Tensor,
    row_duplicate: paddle.Tensor,
    column_duplicate: paddle.Tensor,
    weights: paddle.Tensor,
) -> paddle.Tensor:
    """Return what ``one_way_contrastive_loss`` returns, from all scores at once."""
    inputs = (temperature, row_group, column_group, row_duplicate, column_duplicate)
    return _composed_one_way(contrastive_logsumexp_reference, rows, columns, *inputs, weights)


def contrastive_logsumexp_reference(
    rows: paddle.Tensor,
    columns: paddle.Tensor,
    temperature: paddle.Tensor,
    row_group: paddle.Tensor,
    column_group: paddle.Tensor,
    row_duplicate: paddle.Tensor,
    column_duplicate: paddle.Tensor,
) -> ContrastiveStatistics:
    """Return what ``contrastive_logsumexp`` returns, from all scores at once."""
    scores = paddle.matmul(rows, columns, transpose_y=True) / temperature
    positive = row_group.unsqueeze(1) == column_group.unsqueeze(0)
    duplicate = row_duplicate.unsqueeze(1) == column_duplicate.unsqueeze(0)
    kept = positive | ~duplicate | (row_duplicate.unsqueeze(1) == -1)
    return ContrastiveStatistics(
        _masked_logsumexp(scores, kept, axis=1),
        _masked_logsumexp(scores, positive, axis=1),
        _masked_logsumexp(scores, kept, axis=0),
        _masked_logsumexp(scores, positive, axis=0),
    )


def _composed_one_way(function: Callable[..., ContrastiveStatistics], *arguments) -> paddle.Tensor:
    """The one-way loss from the log-sum-exps that a function returns."""
    *inputs, weights = arguments
    sums = function(*inputs)
    has_positive = sums.row_positive > float("-inf")
    zeros = paddle.zeros_like(sums.row_all)
    positive = paddle.where(has_positive, sums.row_positive, zeros)
    losses = paddle.where(has_positive, sums.row_all, zeros) - positive
    return (losses * weights.astype(losses.dtype)).sum(keepdim=True)


def _masked_logsumexp(scores: paddle.Tensor, mask: paddle.Tensor, *, axis: int) -> paddle.Tensor:
    """Log-sum-exp over the masked scores; the maximum is a constant, so nothing divides by zero."""
    lowest = paddle.full_like(scores, float("-inf"))
    highest = paddle.where(mask, scores, lowest).max(axis=axis, keepdim=True).detach()
    highest = paddle.where(highest == float("-inf"), paddle.zeros_like(highest), highest)
    # Masked scores are replaced before exp: its gradient there must be zero, not 0 * inf.
    shifted = paddle.where(mask, scores - highest, paddle.zeros_like(scores))
    total = (paddle.exp(shifted) * mask.astype(scores.dtype)).sum(axis=axis)
    present = mask.any(axis=axis)
    logarithm = paddle.log(paddle.where(present, total, paddle.ones_like(total)))
    value = logarithm + highest.squeeze(axis)
    return paddle.where(present, value, paddle.full_like(value, float("-inf")))


def _check(
    rows: paddle.Tensor,
    columns: paddle.Tensor,
    temperature: paddle.Tensor,
    row_ids: tuple[paddle.Tensor, paddle.Tensor],
    column_ids: tuple[paddle.Tensor, paddle.Tensor],
) -> None:
    """Refuse arguments that do not fit together."""
    operator = "contrastive_logsumexp"
    check_tensor(operator, "rows", rows, shape=(-1, -1), dtypes=_FLOATS)
    num_rows, size = rows.shape
    check_tensor(operator, "columns", columns, shape=(-1, size), dtypes=_FLOATS)
    if 0 in (*rows.shape, *columns.shape):
        shapes = f"{list(rows.shape)} and {list(columns.shape)}"
        raise UserError(f"{operator}: rows and columns have shapes {shapes}; none may be empty")
    check_tensor(operator, "temperature", temperature, shape=(1,), dtypes=("float32",))
    for side, count, ids in (("row", num_rows, row_ids), ("column", columns.shape[0], column_ids)):
        for kind, tensor in zip(("group", "duplicate"), ids, strict=True):
            check_tensor(operator, f"{side}_{kind}", tensor, shape=(count,), dtypes=("int64",))
