"""Matrix products, in the precision that a program is built with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import paddle

PRECISIONS = ("float32", "bfloat16", "float16")

_precisions = ["float32"]  # innermost last


@contextlib.contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Compute the products, and their gradients, of what is built meanwhile in this precision."""
    assert precision in PRECISIONS, precision
    _precisions.append(precision)
    try:
        yield
    finally:
        _precisions.pop()


def product(x: paddle.Tensor, y: paddle.Tensor, *, transpose_y: bool = False) -> paddle.Tensor:
    """Return x [..., N, K] times y [..., K, M], or its transpose [..., M, K]: float32 [..., N, M].

    In half precision both are rounded on entry, as is the result; sums within are float32. Weights,
    norms, softmax and losses stay float32, so weights need no second copy of higher precision.
    """
    precision = _precisions[-1]
    if precision == "float32":
        return paddle.matmul(x, y, transpose_y=transpose_y)
    x, y = x.astype(precision), y.astype(precision)
    # Paddle 3.3's gradient of a bfloat16 product crashes where one of its parts is not wanted.
    x.stop_gradient = y.stop_gradient = False
    return paddle.matmul(x, y, transpose_y=transpose_y).astype("float32")
