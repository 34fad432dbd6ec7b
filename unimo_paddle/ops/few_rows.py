"""The product of a few rows with a large matrix: what each step of writing consists of.

It takes the time of reading the matrix once. ``csrc/few_rows/few_rows.h`` says why that is news.
"""

from __future__ import annotations

import paddle

from unimo_paddle.errors import UserError
from unimo_paddle.ops.library import check_axes, run_operator


def few_rows_product(
    rows: paddle.Tensor,
    matrix: paddle.Tensor,
    bias: paddle.Tensor | None = None,
    *,
    is_transposed: bool = False,
) -> paddle.Tensor:
    """Return rows . matrix + bias. Has no gradient; works in the static and the dynamic graph.

    Many rows, other types than float32 and GPUs get Paddle's own product.

    Args:
        rows: [..., K].
        matrix: [K, N]; transposed [N, K].
        bias: [N].
    """
    check_axes("few_rows_product", "rows", rows, "..., K")
    check_axes("few_rows_product", "matrix", matrix, "N, K" if is_transposed else "K, N")
    if bias is not None:
        check_axes("few_rows_product", "bias", bias, "N")
    if bias is not None and 0 in bias.shape:
        # Paddle hands no operator an optional tensor without numbers: it would be left out.
        raise UserError(f"few_rows_product: bias has shape {list(bias.shape)}; give one or None")
    return run_operator("unimo_few_rows_product", rows, matrix, bias, bool(is_transposed))[0]


def few_rows_product_reference(
    rows: paddle.Tensor,
    matrix: paddle.Tensor,
    bias: paddle.Tensor | None = None,
    *,
    is_transposed: bool = False,
) -> paddle.Tensor:
    """The same by Paddle's operations."""
    product = paddle.matmul(rows, matrix, transpose_y=is_transposed)
    return product if bias is None else product + bias
