"""Symmetric Kullback-Leibler divergence against float64 arithmetic."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle import losses


def learnable(array: np.ndarray) -> paddle.Tensor:
    tensor = paddle.to_tensor(np.asarray(array, "float32"))
    tensor.stop_gradient = False
    return tensor


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def kl_by_hand(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """KL(p || q) + KL(q || p), each from its definition, and the gradients, in float64."""
    x, y, weights = (np.asarray(array, "float64") for array in (x, y, weights))
    log_p, log_q = log_softmax(x), log_softmax(y)
    p, q = np.exp(log_p), np.exp(log_q)
    forward = (p * (log_p - log_q)).sum(axis=1, keepdims=True)
    backward = (q * (log_q - log_p)).sum(axis=1, keepdims=True)
    share = (weights / max(weights.sum(), 1e-30))[:, None]
    # d KL(p || q) / dx = p (log p - log q - KL); d KL(q || p) / dx = p - q; the other way round.
    by_x = share * (p * (log_p - log_q - forward) + p - q)
    by_y = share * (q * (log_q - log_p - backward) + q - p)
    return float((share * (forward + backward)).sum()), by_x, by_y


CASES = {
    "one row": (1, 2, 1.0, 1.0),
    "odd sizes": (3, 7, 1.0, 1.0),
    "many classes": (2, 5003, 2.0, 2.0),
    "sharp": (4, 9, 30.0, 30.0),
    "one side sharp": (4, 9, 1.0, 300.0),
    "flat": (3, 5, 1e-3, 1e-3),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_divergence_and_gradients_are_those_of_the_definition(case: tuple) -> None:
    num_rows, num_classes, size_x, size_y = case
    generator = np.random.default_rng(0)
    # Rounded first, so that both sides get the same numbers.
    x = (generator.normal(size=(num_rows, num_classes)) * size_x).astype("float32")
    y = (generator.normal(size=(num_rows, num_classes)) * size_y).astype("float32")
    weights = np.ones(num_rows)
    expected, by_x, by_y = kl_by_hand(x, y, weights)
    p, q = learnable(x), learnable(y)
    loss = losses.symmetric_kl(p, q, paddle.to_tensor(weights.astype("float32")))
    loss.backward()
    assert loss.shape == []
    # Logarithms are off by some roundings of the largest, and so relatively is what they make up.
    logarithms = [log_softmax(logits.astype("float64")) for logits in (x, y)]
    noise = 2.0**-22 * max(1.0, float(np.abs(logarithms).max()))
    spread = float(np.abs(logarithms[0] - logarithms[1]).max())
    assert float(loss) == pytest.approx(expected, rel=1e-6, abs=noise * min(1.0, spread))
    tolerance = noise * max(1.0, spread)
    np.testing.assert_allclose(p.grad.numpy(), by_x, rtol=0, atol=tolerance)
    np.testing.assert_allclose(q.grad.numpy(), by_y, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [1e4, 1e18])
def test_extreme_logits_have_a_finite_divergence_and_gradient(size: float) -> None:
    x, y = np.array([[size, 0.0, -size]]), np.array([[-size, 0.0, size]])
    p, q = learnable(x), learnable(y)
    loss = losses.symmetric_kl(p, q, paddle.ones([1]))
    loss.backward()
    assert float(loss) == pytest.approx(4 * size, rel=1e-6)
    assert np.isfinite(p.grad.numpy()).all()
    assert np.isfinite(q.grad.numpy()).all()


def test_classes_that_both_sides_rule_out_count_nothing() -> None:
    x, y = np.array([[0.5, -1e18, 0.1]]), np.array([[0.2, -1e18, 0.9]])
    expected, _, _ = kl_by_hand(x[:, [0, 2]], y[:, [0, 2]], np.ones(1))
    found = losses.symmetric_kl(learnable(x), learnable(y), paddle.ones([1]))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_equal_distributions_have_no_divergence_and_no_gradient() -> None:
    x = np.random.default_rng(0).normal(size=(3, 6))
    p, q = learnable(x), learnable(x + 5.0)  # a shift of all logits changes no probability
    loss = losses.symmetric_kl(p, q, paddle.ones([3]))
    loss.backward()
    assert 0.0 <= float(loss) < 1e-11
    assert np.abs(p.grad.numpy()).max() < 1e-6


def test_rows_that_are_not_real_count_nothing() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(3, 4)), generator.normal(size=(3, 4))
    weights = np.array([1.0, 0.0, 1.0])
    expected, by_x, _ = kl_by_hand(x, y, weights)
    p = learnable(x)
    loss = losses.symmetric_kl(p, learnable(y), paddle.to_tensor(weights.astype("float32")))
    loss.backward()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(p.grad.numpy(), by_x, atol=1e-6)


def test_divergence_of_no_real_row_is_zero() -> None:
    p, q = learnable(np.ones((2, 3))), learnable(np.zeros((2, 3)))
    loss = losses.symmetric_kl(p, q, paddle.zeros([2]))
    loss.backward()
    assert float(loss) == 0.0
    np.testing.assert_array_equal(p.grad.numpy(), 0.0)
