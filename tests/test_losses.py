"""Losses against numbers worked out by hand, and safe where nothing is real."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle import losses


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - log_sum_exp(logits)[:, None]


def log_sum_exp(scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Log-sum-exp by row in float64, -inf where the mask leaves nothing."""
    kept = np.exp(scores.astype("float64")) * (1.0 if mask is None else mask)
    with np.errstate(divide="ignore"):
        return np.log(kept.sum(axis=1))


def learnable(array: np.ndarray) -> paddle.Tensor:
    tensor = paddle.to_tensor(np.asarray(array, "float32"))
    tensor.stop_gradient = False
    return tensor


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


LABELS = np.array([2, 0, 4])
WEIGHTS = np.array([1.0, 0.0, 1.0], "float32")


def test_token_cross_entropy_is_a_mean_over_real_tokens():
    logits = normal(3, 5)
    picked = -log_softmax(logits)[[0, 2], [2, 4]]
    found = losses.token_cross_entropy(
        learnable(logits), paddle.to_tensor(LABELS), paddle.to_tensor(WEIGHTS)
    )
    assert found.shape == []
    assert float(found) == pytest.approx(picked.mean(), rel=1e-5)


def test_label_smoothing_is_the_cross_entropy_of_smoothed_targets():
    logits, smoothing = normal(3, 5), 0.1
    targets = (1 - smoothing) * np.eye(5)[LABELS] + smoothing / 5
    expected = -(targets * log_softmax(logits)).sum(axis=1)[[0, 2]].mean()
    found = losses.token_cross_entropy(
        learnable(logits),
        paddle.to_tensor(LABELS),
        paddle.to_tensor(WEIGHTS),
        label_smoothing=smoothing,
    )
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_has_the_gradient_of_smoothed_targets():
    tensor, smoothing = learnable(normal(3, 5)), 0.1
    targets = (1 - smoothing) * np.eye(5)[LABELS] + smoothing / 5
    losses.token_cross_entropy(
        tensor,
        paddle.to_tensor(LABELS),
        paddle.ones([3]),
        label_smoothing=smoothing,
    ).backward()
    expected = (np.exp(log_softmax(normal(3, 5))) - targets) / 3
    np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=1e-6)


def test_distribution_cross_entropy_by_hand():
    logits = normal(3, 5)
    targets = np.exp(log_softmax(normal(3, 5, seed=1))).astype("float32")
    expected = -(targets * log_softmax(logits)).sum(axis=1)[[0, 2]].mean()
    found = losses.distribution_cross_entropy(
        learnable(logits), paddle.to_tensor(targets), paddle.to_tensor(WEIGHTS)
    )
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy_sums_over_answers():
    logits, targets = normal(3, 4), np.random.default_rng(2).random((3, 4))
    share = 1.0 / (1.0 + np.exp(-logits))
    terms = -(targets * np.log(share) + (1 - targets) * np.log(1 - share)).sum(axis=1)
    found = losses.binary_cross_entropy(
        learnable(logits), paddle.to_tensor(targets.astype("float32")), paddle.to_tensor(WEIGHTS)
    )
    assert float(found) == pytest.approx(terms[[0, 2]].mean(), rel=1e-5)


def test_region_regression_is_a_mean_over_masked_regions_and_numbers():
    predicted, target = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    mask = np.array([[1, 0, 0], [0, 1, 1]], "float32")
    expected = ((predicted - target) ** 2)[mask > 0].mean()
    found = losses.region_regression(
        learnable(predicted), learnable(target), paddle.to_tensor(mask)
    )
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_region_classes_may_be_labels_or_distributions():
    logits = learnable(normal(3, 5))
    one_hot = paddle.to_tensor(np.eye(5, dtype="float32")[LABELS])
    weights = paddle.to_tensor(WEIGHTS)
    hard = losses.region_classification(logits, paddle.to_tensor(LABELS), weights)
    soft = losses.region_classification(logits, one_hot, weights)
    assert float(hard) == pytest.approx(float(soft), rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, rows, total: losses.token_cross_entropy(
            x, paddle.to_tensor(LABELS[rows]), paddle.to_tensor(WEIGHTS[rows]), total=total
        ),
        lambda x, rows, total: losses.distribution_cross_entropy(
            x, paddle.ones_like(x) / 5, paddle.to_tensor(WEIGHTS[rows]), total=total
        ),
        lambda x, rows, total: losses.region_regression(
            x, paddle.ones_like(x), paddle.to_tensor(WEIGHTS[rows]), total=total
        ),
        lambda x, rows, total: losses.region_classification(
            x, paddle.to_tensor(LABELS[rows]), paddle.to_tensor(WEIGHTS[rows]), total=total
        ),
    ],
    ids=["words", "distributions", "region features", "region classes"],
)
def test_shares_of_slices_add_up_to_the_mean_of_the_whole(loss):
    logits, total = normal(3, 5), paddle.to_tensor(float(WEIGHTS.sum()))
    whole = float(loss(learnable(logits), slice(0, 3), None))
    shares = [
        float(loss(learnable(logits[rows]), rows, total)) for rows in (slice(0, 1), slice(1, 3))
    ]
    assert sum(shares) == pytest.approx(whole, rel=1e-6)
    assert min(shares) > 0


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: losses.token_cross_entropy(x, paddle.zeros([3], "int64"), paddle.zeros([3])),
        lambda x: losses.distribution_cross_entropy(x, paddle.ones([3, 5]) / 5, paddle.zeros([3])),
        lambda x: losses.binary_cross_entropy(x, paddle.ones([3, 5]), paddle.zeros([3])),
        lambda x: losses.region_regression(x, paddle.ones([3, 5]), paddle.zeros([3])),
        lambda x: losses.one_way_contrastive(x[:, 0], paddle.full([3], -np.inf)),
    ],
    ids=["token", "distribution", "binary", "regression", "contrastive"],
)
def test_a_loss_of_nothing_is_zero_with_a_zero_gradient(loss):
    tensor = learnable(normal(3, 5))
    value = loss(tensor)
    value.backward()
    assert float(value) == 0.0
    np.testing.assert_array_equal(tensor.grad.numpy(), 0.0)


def contrastive_sums(scores: np.ndarray, positive: np.ndarray) -> list[np.ndarray]:
    """row_all, row_positive, column_all, column_positive."""
    return [
        log_sum_exp(scores),
        log_sum_exp(scores, positive),
        log_sum_exp(scores.T),
        log_sum_exp(scores.T, positive.T),
    ]


# Three images and four texts: image 0 has two captions, text 3 has no image, nor image 2 a text.
SCORES = normal(3, 4) * 3.0
POSITIVE = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], "float64")


def test_symmetric_contrastive_by_hand():
    sums = contrastive_sums(SCORES, POSITIVE)
    rows = (sums[0] - sums[1])[:2].mean()
    columns = (sums[2] - sums[3])[:3].mean()
    found = losses.symmetric_contrastive(*[learnable(x) for x in sums])
    assert float(found) == pytest.approx(0.5 * (rows + columns), rel=1e-5)


def test_rows_without_positives_carry_no_gradient_and_no_nan():
    sums = [learnable(x) for x in contrastive_sums(SCORES, POSITIVE)]
    losses.symmetric_contrastive(*sums).backward()
    row_all, row_positive, column_all, column_positive = (x.grad.numpy() for x in sums)
    np.testing.assert_allclose(row_all, [0.25, 0.25, 0.0], atol=1e-6)
    np.testing.assert_allclose(row_positive, [-0.25, -0.25, 0.0], atol=1e-6)
    np.testing.assert_allclose(column_all, np.array([1, 1, 1, 0]) / 6, atol=1e-6)
    np.testing.assert_allclose(column_positive, -np.array([1, 1, 1, 0]) / 6, atol=1e-6)


PAIR_ROWS, PAIR_COLUMNS = np.array([0, 0, 1]), np.array([0, 1, 2])


def joint_by_hand(scores: np.ndarray) -> float:
    """Equation 1 from its candidates, listed as a set: no entry of the matrix twice."""
    total = 0.0
    for row, column in zip(PAIR_ROWS, PAIR_COLUMNS):
        candidate = np.zeros_like(scores, dtype=bool)
        candidate[row], candidate[:, column] = True, True
        exponentials = np.exp(scores)
        positive = exponentials[candidate & (POSITIVE > 0)].sum()
        total -= np.log(positive / exponentials[candidate].sum())
    return total / len(PAIR_ROWS)


def joint(scores: paddle.Tensor) -> paddle.Tensor:
    nothing = paddle.to_tensor(np.where(POSITIVE > 0, 0.0, -1e9).astype("float32"))
    return losses.joint_contrastive(
        paddle.logsumexp(scores, axis=1),
        paddle.logsumexp(scores + nothing, axis=1),
        paddle.logsumexp(scores, axis=0),
        paddle.logsumexp(scores + nothing, axis=0),
        pair_scores=paddle.gather_nd(
            scores, paddle.to_tensor(np.stack([PAIR_ROWS, PAIR_COLUMNS], 1))
        ),
        pair_rows=paddle.to_tensor(PAIR_ROWS),
        pair_columns=paddle.to_tensor(PAIR_COLUMNS),
    )


def test_joint_contrastive_counts_the_pair_once():
    assert float(joint(learnable(SCORES))) == pytest.approx(joint_by_hand(SCORES), rel=1e-5)


def test_joint_contrastive_has_the_gradient_of_the_equation():
    tensor = learnable(SCORES)
    joint(tensor).backward()
    step = 1e-5
    expected = np.zeros_like(SCORES)
    for index in np.ndindex(SCORES.shape):
        shift = np.zeros_like(SCORES)
        shift[index] = step
        expected[index] = joint_by_hand(SCORES + shift) - joint_by_hand(SCORES - shift)
    np.testing.assert_allclose(tensor.grad.numpy(), expected / (2 * step), atol=1e-5)


def test_joint_contrastive_takes_aligned_pairs_by_default():
    scores, positive = normal(3, 3), np.eye(3)
    sums = [learnable(x) for x in contrastive_sums(scores, positive)]
    pair_scores = learnable(np.diag(scores))
    order = paddle.arange(3)
    found = losses.joint_contrastive(*sums, pair_scores=pair_scores)
    named = losses.joint_contrastive(
        *sums, pair_scores=pair_scores, pair_rows=order, pair_columns=order
    )
    assert float(found) == pytest.approx(float(named), rel=1e-6)
    assert float(found) > 0.0


def test_joint_contrastive_ignores_pairs_without_positives():
    sums = [learnable([1.0, 2.0]), learnable([0.5, -np.inf])] * 2
    found = losses.joint_contrastive(*sums, pair_scores=learnable([0.5, 0.0]))
    found.backward()
    assert np.isfinite(float(found))
    assert all(np.isfinite(x.grad.numpy()).all() for x in sums)


@pytest.mark.parametrize("size", [1e-3, 100.0])
def test_contrastive_losses_stand_extreme_temperatures(size: float):
    scores, positive = np.clip(normal(4, 4), -1, 1) / size, np.eye(4)
    sums = [learnable(_exact(scores, axis)) for axis in (1, 1, 0, 0)]
    pair_scores = learnable(np.diag(scores) * positive.sum(axis=1))
    sums[1], sums[3] = pair_scores, pair_scores
    for loss in (
        losses.symmetric_contrastive(*sums),
        losses.joint_contrastive(*sums, pair_scores=pair_scores),
    ):
        loss.backward()
        assert np.isfinite(float(loss))
        assert all(np.isfinite(x.grad.numpy()).all() for x in sums)


def _exact(scores: np.ndarray, axis: int) -> np.ndarray:
    largest = scores.max(axis=axis, keepdims=True)
    total = np.exp(scores - largest).sum(axis=axis)
    return largest.squeeze(axis) + np.log(total)


def test_extra_candidates_join_the_sum():
    scores, extra = normal(3, 4), normal(3, 2, seed=1)
    mask = np.array([[1, 1], [1, 0], [0, 0]], "float32")
    expected = np.log(np.exp(scores).sum(axis=1) + (np.exp(extra) * mask).sum(axis=1))
    found = losses.add_candidates(
        learnable(log_sum_exp(scores)), learnable(extra), paddle.to_tensor(mask)
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_extra_candidates_join_nothing_without_a_nan():
    empty = learnable([-np.inf, -np.inf])
    extra = learnable([[1.0, 2.0], [3.0, 4.0]])
    mask = paddle.to_tensor(np.array([[1.0, 0.0], [0.0, 0.0]], "float32"))
    found = losses.add_candidates(empty, extra, mask)
    losses.one_way_contrastive(found + 1.0, found).backward()
    assert float(found[0]) == pytest.approx(1.0)
    assert float(found[1]) < -1e29
    assert np.isfinite(extra.grad.numpy()).all()
    assert np.isfinite(empty.grad.numpy()).all()
