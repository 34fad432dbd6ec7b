"""Contrastive loss, forward and backward: the fused operator against plain Paddle."""

from __future__ import annotations

import numpy as np
import paddle
from paddle.nn import functional as F

from unimo_paddle.benchmarks import Row, interleave
from unimo_paddle.ops.contrastive import contrastive_logsumexp

SIZES = ((256, 256), (1024, 256), (4096, 256), (2048, 768))  # N = M, D
_TEMPERATURE = 0.07


def run(num_rounds: int) -> list[Row]:
    """One row of the table for each size; raises if the two losses differ."""
    return [_measure(count, size, num_rounds=num_rounds) for count, size in SIZES]


def _measure(count: int, size: int, *, num_rounds: int) -> Row:
    generator = np.random.default_rng(0)
    rows, columns = (
        paddle.to_tensor(features / np.linalg.norm(features, axis=1, keepdims=True))
        for features in generator.normal(size=(2, count, size)).astype(np.float32)
    )
    temperature = paddle.to_tensor([_TEMPERATURE])
    tensors = [rows, columns, temperature]
    for tensor in tensors:
        tensor.stop_gradient = False
    ids = paddle.arange(count)
    none = paddle.full([count], -1, "int64")

    def ours() -> paddle.Tensor:
        s = contrastive_logsumexp(*tensors, ids, ids, none, none)
        difference = s.row_all - s.row_positive + s.column_all - s.column_positive
        return _backward(difference.mean() / 2, tensors)

    def plain() -> paddle.Tensor:
        """The usual form: the score matrix, and a cross entropy each way."""
        scores = paddle.matmul(rows, columns, transpose_y=True) / temperature
        loss = (F.cross_entropy(scores, ids) + F.cross_entropy(scores.t(), ids)) / 2
        return _backward(loss, tensors)

    np.testing.assert_allclose(float(ours()), float(plain()), rtol=1e-4)
    times = interleave(ours, plain, num_rounds=num_rounds)
    # One product forward and three backward, each 2 N M D operations.
    gigaflops = 8 * count * count * size / times["ours_ms"] / 1e6
    return {"N = M": count, "D": size, **times, "GFLOP/s": gigaflops}


def _backward(loss: paddle.Tensor, tensors: list[paddle.Tensor]) -> paddle.Tensor:
    """Run the backward pass and forget the gradients."""
    loss.backward()
    for tensor in tensors:
        tensor.clear_gradient()
    return loss
