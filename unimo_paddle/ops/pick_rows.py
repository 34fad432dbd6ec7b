"""Rows of each sample in another order, with a number behind each: texts that go on from others."""

from __future__ import annotations

import paddle
from paddle import Tensor

from unimo_paddle.errors import UserError
from unimo_paddle.ops.library import check_axes, run_operator


def pick_rows(values: Tensor, rows: Tensor, behind: Tensor | None = None) -> Tensor:
    """Values [B, K', ...] of the rows that rows [B, K] name: [B, K, ...]. Has no gradient.

    On a GPU this is ``pick_rows_reference``.

    Args:
        rows: int64, from 0 to K' - 1.
        behind: [B, K], of the type of values [B, K', t]: one number more for each row.
    """
    check_axes("pick_rows", "rows", rows, "B, K")
    check_axes("pick_rows", "values", values, "B, K', ..." if behind is None else "B, K', t")
    if behind is not None:
        check_axes("pick_rows", "behind", behind, "B, K")
    if paddle.is_compiled_with_cuda():
        return pick_rows_reference(values, rows, behind)
    if behind is not None and 0 in behind.shape:
        # Paddle hands no operator an optional tensor without numbers.
        is_right = tuple(behind.shape) == tuple(rows.shape) and behind.dtype == values.dtype
        if not is_right or rows.dtype != paddle.int64:
            raise UserError(
                f"pick_rows: behind has shape {list(behind.shape)}; give that of rows, "
                f"{list(rows.shape)} int64, and the type of values"
            )
        picked = run_operator("unimo_pick_rows", values, rows, None)[0]
        return paddle.concat([picked, behind.unsqueeze(-1)], axis=-1)
    return run_operator("unimo_pick_rows", values, rows, behind)[0]


def pick_rows_reference(values: Tensor, rows: Tensor, behind: Tensor | None = None) -> Tensor:
    """The same by Paddle's operations."""
    shape = paddle.shape(values)
    starts = paddle.arange(0, shape[0], dtype="int64").unsqueeze(1) * shape[1].astype("int64")
    picked = paddle.gather(values.flatten(0, 1), (rows + starts).flatten())
    picked = picked.reshape(paddle.concat([paddle.shape(rows), shape[2:]]))
    return picked if behind is None else paddle.concat([picked, behind.unsqueeze(-1)], axis=-1)
