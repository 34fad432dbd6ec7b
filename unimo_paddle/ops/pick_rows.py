"""Rows of each sample in another order, with a number behind each: texts that go on from others."""

from __future__ import annotations

import paddle
from paddle import Tensor

from unimo_paddle.ops.library import run_operator


def pick_rows(values: Tensor, rows: Tensor, behind: Tensor | None = None) -> Tensor:
    """Values [B, K', ...] of the rows that rows [B, K] name: [B, K, ...]. Has no gradient.

    On a GPU this is ``pick_rows_reference``.

    Args:
        rows: int64, from 0 to K' - 1.
        behind: [B, K], of the type of values [B, K', t]: one number more for each row.
    """
    if paddle.is_compiled_with_cuda():
        return pick_rows_reference(values, rows, behind)
    return run_operator("unimo_pick_rows", values, rows, behind)[0]


def pick_rows_reference(values: Tensor, rows: Tensor, behind: Tensor | None = None) -> Tensor:
    """The same by Paddle's operations."""
    shape = paddle.shape(values)
    starts = paddle.arange(0, shape[0], dtype="int64").unsqueeze(1) * shape[1].astype("int64")
    picked = paddle.gather(values.flatten(0, 1), (rows + starts).flatten())
    picked = picked.reshape(paddle.concat([paddle.shape(rows), shape[2:]]))
    return picked if behind is None else paddle.concat([picked, behind.unsqueeze(-1)], axis=-1)
