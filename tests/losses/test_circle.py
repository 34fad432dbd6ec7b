"""Circle loss against the original's recordings, and against float64 arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

from unimo_paddle import losses

MARGIN = 0.2


def learnable(array: np.ndarray) -> paddle.Tensor:
    tensor = paddle.to_tensor(np.asarray(array, "float32"))
    tensor.stop_gradient = False
    return tensor


def circle_by_hand(
    positive: np.ndarray, negative: np.ndarray, margin: float, scale: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss and its gradients in float64, term by term as the equation has them."""
    positive, negative = positive.astype("float64"), negative.astype("float64")
    positive_weight = np.maximum(1 + margin - positive, 0)
    negative_weight = np.maximum(negative + margin, 0)
    a = np.exp(-scale * positive_weight * (positive - (1 - margin)))
    b = np.exp(scale * negative_weight * (negative - margin))
    sum_a, sum_b = a.sum(axis=1, keepdims=True), b.sum(axis=1, keepdims=True)
    share = 1 / (1 + sum_a * sum_b) / len(positive)
    loss = np.log(1 + sum_a * sum_b).mean()
    by_positive = -share * sum_b * a * scale * positive_weight
    return float(loss), by_positive, share * sum_a * b * scale * negative_weight


def scores_of(num_rows: int, num_negatives: int, *, seed: int = 0) -> tuple:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(num_rows, 1)), generator.normal(size=(num_rows, num_negatives))


def assert_close(found: paddle.Tensor, expected: np.ndarray, tolerance: float) -> None:
    largest = max(float(np.abs(expected).max()), 1e-30)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("case", range(5))
def test_loss_and_gradients_are_the_recorded_ones(shared_dir: Path, case: int) -> None:
    with np.load(shared_dir / "reference" / "official" / "circle_loss.npz") as arrays:
        recorded = {name: arrays[f"{case}/{name}"] for name in ("sp", "sn", "m_scale", "loss")}
        gradients = [arrays[f"{case}/grad_sp"], arrays[f"{case}/grad_sn"]]
    positive, negative = learnable(recorded["sp"]), learnable(recorded["sn"])
    loss = losses.circle_loss(positive, negative, *map(float, recorded["m_scale"]))
    loss.backward()
    assert loss.shape == []
    assert float(loss) == pytest.approx(float(recorded["loss"][0]), rel=1e-6)
    # The recording is float32, too; an exponent of some hundred loses some hundred roundings.
    assert_close(positive.grad, gradients[0], 2e-5)
    assert_close(negative.grad, gradients[1], 2e-5)


@pytest.mark.parametrize("scale", [0.5, 1.0, 16.0])
@pytest.mark.parametrize(("num_rows", "num_negatives"), [(1, 1), (3, 10), (7, 5)])
def test_loss_and_gradients_are_those_of_the_equation(
    scale: float, num_rows: int, num_negatives: int
) -> None:
    scores = scores_of(num_rows, num_negatives)
    expected, by_positive, by_negative = circle_by_hand(*scores, MARGIN, scale)
    positive, negative = map(learnable, scores)
    loss = losses.circle_loss(positive, negative, MARGIN, scale)
    loss.backward()
    assert float(loss) == pytest.approx(expected, rel=2e-6)
    # Each score, of a few units, is rounded once; an exponent multiplies that by the scale.
    assert_close(positive.grad, by_positive, scale * 2e-6)
    assert_close(negative.grad, by_negative, scale * 2e-6)


@pytest.mark.parametrize("scale", [1.0, 64.0, 256.0])
@pytest.mark.parametrize("size", [0.0, 1.0, 20.0, -20.0])
def test_extreme_scores_stay_finite(scale: float, size: float) -> None:
    positive, negative = learnable(np.full((2, 1), -size)), learnable(np.full((2, 4), size))
    loss = losses.circle_loss(positive, negative, MARGIN, scale)
    loss.backward()
    assert np.isfinite(float(loss))
    assert np.isfinite(positive.grad.numpy()).all()
    assert np.isfinite(negative.grad.numpy()).all()


def test_perfect_scores_have_no_gradient() -> None:
    positive, negative = learnable([[1.2]]), learnable([[-0.2, -3.0]])
    losses.circle_loss(positive, negative, MARGIN, 8.0).backward()
    # The weight of a score at its optimum is zero, but for the rounding of 1.2 - (1 + 0.2).
    assert np.abs(positive.grad.numpy()).max() < 1e-5
    assert np.abs(negative.grad.numpy()).max() < 1e-5


def test_rows_that_are_not_real_count_nothing() -> None:
    scores = scores_of(4, 3)
    expected, _, _ = circle_by_hand(scores[0][:2], scores[1][:2], MARGIN, 2.0)
    positive, negative = map(learnable, scores)
    weights = paddle.to_tensor([1.0, 1.0, 0.0, 0.0])
    loss = losses.circle_loss(positive, negative, MARGIN, 2.0, weights=weights)
    loss.backward()
    assert float(loss) == pytest.approx(expected, rel=2e-6)
    np.testing.assert_array_equal(negative.grad.numpy()[2:], 0.0)


def test_loss_of_no_real_row_is_zero() -> None:
    positive, negative = map(learnable, scores_of(2, 3))
    loss = losses.circle_loss(positive, negative, MARGIN, 2.0, weights=paddle.zeros([2]))
    loss.backward()
    assert float(loss) == 0.0
    np.testing.assert_array_equal(positive.grad.numpy(), 0.0)


def test_retrieval_loss_is_the_recorded_one(shared_dir: Path) -> None:
    with np.load(shared_dir / "reference" / "official" / "retrieval_train_s4.npz") as arrays:
        scores, expected = arrays["out/score"], float(arrays["out/loss"][0])
        margin, scale = float(arrays["cfg/margin"]), float(arrays["cfg/scale_circle"])
    found = losses.retrieval_loss(learnable(scores), margin, scale)
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("num_scores", "num_images"), [(3, 1), (4, 1), (5, 2), (21, 10)])
def test_retrieval_loss_is_a_mean_over_image_and_caption_negatives(
    num_scores: int, num_images: int
) -> None:
    scores = np.random.default_rng(1).normal(size=(3, num_scores))
    positive, images, captions = np.split(scores, [1, 1 + num_images], axis=1)
    by_image, gradient, by_images = circle_by_hand(positive, images, MARGIN, 1.0)
    by_caption, other_gradient, by_captions = circle_by_hand(positive, captions, MARGIN, 1.0)
    tensor = learnable(scores)
    loss = losses.retrieval_loss(tensor, MARGIN, 1.0)
    loss.backward()
    expected = 0.5 * np.concatenate([gradient + other_gradient, by_images, by_captions], axis=1)
    assert float(loss) == pytest.approx(0.5 * (by_image + by_caption), rel=2e-6)
    assert_close(tensor.grad, expected, 2e-6)


def test_shares_of_slices_add_up_to_the_mean_of_the_whole() -> None:
    scores = np.random.default_rng(2).normal(size=(5, 7))
    weights = np.array([1, 0, 1, 1, 1], "float32")
    total = paddle.to_tensor(float(weights.sum()))
    whole = losses.retrieval_loss(learnable(scores), MARGIN, 1.0, weights=paddle.to_tensor(weights))
    shares = [
        losses.retrieval_loss(
            learnable(scores[rows]),
            MARGIN,
            1.0,
            weights=paddle.to_tensor(weights[rows]),
            total=total,
        )
        for rows in (slice(0, 2), slice(2, 5))
    ]
    assert sum(map(float, shares)) == pytest.approx(float(whole), rel=1e-6)
