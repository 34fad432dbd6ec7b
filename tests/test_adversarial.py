"""Perturbations: their start, their steps, their limits."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.adversarial import AdversarialConfig, ascend, scaled_start
from unimo_paddle.errors import UserError

SHAPE = (3, 5, 4)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def l2(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x.astype(np.float64) ** 2).sum(axis=(1, 2), keepdims=True))


def moved(perturbation: np.ndarray, gradient: np.ndarray, config: AdversarialConfig) -> np.ndarray:
    inputs = paddle.to_tensor(perturbation), paddle.to_tensor(gradient)
    return ascend(*inputs, config).numpy()


@pytest.mark.parametrize("norm", ["l2", "infinity"])
def test_start_is_zero_where_nothing_is(rng, norm: str) -> None:
    mask = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.float32)
    uniform = rng.uniform(-1, 1, SHAPE).astype(np.float32)
    start = scaled_start(uniform, mask, AdversarialConfig(norm=norm, initial_magnitude=0.4))
    assert not start[mask == 0].any()
    assert start[mask == 1].any()
    assert np.isfinite(start).all()


def test_start_is_scaled_by_how_much_is_perturbed() -> None:
    mask = np.array([[1, 1, 0, 0, 0]], np.float32)
    uniform = np.ones((1, 5, 4), np.float32)
    start = scaled_start(uniform, mask, AdversarialConfig(initial_magnitude=0.4))
    np.testing.assert_allclose(start[0, :2], 0.4 / np.sqrt(2 * 4), rtol=1e-6)
    start = scaled_start(uniform, mask, AdversarialConfig(initial_magnitude=0.4, norm="infinity"))
    np.testing.assert_allclose(start[0, :2], 0.4)


def test_a_step_has_the_length_of_the_learning_rate(rng) -> None:
    zero, gradient = np.zeros(SHAPE, np.float32), rng.normal(size=SHAPE).astype(np.float32)
    step = moved(zero, gradient, AdversarialConfig(learning_rate=0.05, max_norm=0.0))
    np.testing.assert_allclose(l2(step), 0.05, rtol=1e-5)
    largest = np.abs(
        moved(zero, gradient, AdversarialConfig(learning_rate=0.05, max_norm=0.0, norm="infinity"))
    ).max(axis=(1, 2))
    np.testing.assert_allclose(largest, 0.05, rtol=1e-5)


def test_published_projection_limits_the_perturbation(rng) -> None:
    perturbation = rng.normal(size=SHAPE).astype(np.float32)
    gradient = 1e-3 * rng.normal(size=SHAPE).astype(np.float32)
    step = moved(perturbation, gradient, AdversarialConfig(max_norm=0.4, projection="published"))
    np.testing.assert_allclose(l2(step), 0.4, rtol=1e-5)
    small = moved(0.01 * perturbation, gradient, AdversarialConfig(projection="published"))
    assert (l2(small) < 0.4).all()


def test_original_projection_looks_at_the_gradient(rng) -> None:
    perturbation = rng.normal(size=SHAPE).astype(np.float32)
    gradient = rng.normal(size=SHAPE).astype(np.float32)
    gradient[0] *= 1e-3  # within the limit: this sample is left as it is
    size = l2(gradient)
    expected = perturbation + 0.05 * gradient / size
    expected = np.where(size > 0.4, expected * 0.4 / size, expected)
    step = moved(perturbation, gradient, AdversarialConfig(projection="original"))
    np.testing.assert_allclose(step, expected, rtol=1e-5, atol=1e-7)


def test_infinity_norm_clamps_every_number(rng) -> None:
    perturbation = rng.normal(size=SHAPE).astype(np.float32)
    gradient = rng.normal(size=SHAPE).astype(np.float32)
    step = moved(perturbation, gradient, AdversarialConfig(max_norm=0.3, norm="infinity"))
    assert np.abs(step).max() <= np.float32(0.3)


def test_a_zero_gradient_moves_nothing(rng) -> None:
    perturbation = (0.01 * rng.normal(size=SHAPE)).astype(np.float32)
    step = moved(perturbation, np.zeros(SHAPE, np.float32), AdversarialConfig())
    np.testing.assert_array_equal(step, perturbation)


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("sides", "tags", "choose one of both, text, image"),
        ("norm", "l1", "choose one of l2, infinity"),
        ("projection", "paper", "choose one of original, published"),
        ("steps", -1, "give a finite number"),
        ("learning_rate", float("nan"), "give a finite number"),
        ("kl_weight", float("inf"), "give a finite number"),
    ],
)
def test_impossible_setting_is_refused_by_name(setting: str, value: object, remedy: str) -> None:
    with pytest.raises(UserError, match=f"task.adversarial.{setting}.*{remedy}"):
        AdversarialConfig(**{setting: value})
