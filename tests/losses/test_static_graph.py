"""Losses of pairs in a static graph, whose batch size is not known when it is built."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import paddle
import pytest

from unimo_paddle import losses

LOSSES = {
    "symmetric_kl": lambda x, y, weights: losses.symmetric_kl(x, y, weights),
    "circle_loss": lambda x, y, weights: losses.circle_loss(x[:, :1], y, 0.2, 2.0, weights=weights),
    "retrieval_loss": lambda x, y, weights: losses.retrieval_loss(x + y, 0.2, 1.0),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_static_graph_computes_the_same(loss: Callable) -> None:
    generator = np.random.default_rng(3)
    feeds = {name: generator.normal(size=(4, 5)).astype("float32") for name in ("x", "y")}
    feeds["weights"] = np.array([1.0, 0.0, 1.0, 1.0], "float32")
    expected = float(loss(*map(paddle.to_tensor, feeds.values())))
    paddle.enable_static()
    try:
        main = paddle.static.Program()
        with paddle.static.program_guard(main, paddle.static.Program()):
            inputs = [
                paddle.static.data(name, [None, *value.shape[1:]], "float32")
                for name, value in feeds.items()
            ]
            value = loss(*inputs)
        executor = paddle.static.Executor(paddle.CPUPlace())
        (found,) = executor.run(main, feed=feeds, fetch_list=[value])
    finally:
        paddle.disable_static()
    assert float(found) == pytest.approx(expected, rel=1e-6)
