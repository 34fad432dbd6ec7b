"""Every contrastive loss over the operator equals the same loss over its reference."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle import losses
from unimo_paddle.ops.contrastive import contrastive_logsumexp, contrastive_logsumexp_reference

NUM_ROWS, CAPTIONS = 45, 3  # images with several captions each: N != M, several positives
NUM_CANDIDATES = 4  # scores of a row's own from elsewhere


def symmetric(sums, scores, pairs):
    return losses.symmetric_contrastive(*sums)


def one_way(sums, scores, pairs):
    return losses.one_way_contrastive(sums.column_all, sums.column_positive)


def with_hard_negatives(sums, scores, pairs):
    return losses.one_way_contrastive(add(sums.row_all, scores), sums.row_positive)


def equation_one_with_outside_scores(sums, scores, pairs):
    return losses.joint_contrastive(
        add(sums.row_all, scores),
        sums.row_positive,
        sums.column_all,
        sums.column_positive,
        pair_scores=pairs,
        pair_rows=paddle.arange(NUM_ROWS).repeat_interleave(CAPTIONS),
    )


def add(log_sum_exp, scores):
    return losses.add_candidates(log_sum_exp, scores, paddle.ones_like(scores))


def loss_and_gradients(form, function, arrays: dict[str, np.ndarray], dtype: str):
    """The loss, and its gradients by everything that is learnt."""
    tensors = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    learnt = ("rows", "columns", "temperature", "candidates")
    for name in learnt:
        tensors[name] = tensors[name].astype(dtype)
        tensors[name].stop_gradient = False
    rows, columns, temperature = (tensors[name] for name in learnt[:3])
    ids = ("row_group", "column_group", "row_duplicate", "column_duplicate")
    sums = function(rows, columns, temperature, *(tensors[name] for name in ids))
    scores = (rows.unsqueeze(1) * tensors["candidates"]).sum(axis=2) / temperature
    pairs = (rows.repeat_interleave(CAPTIONS, axis=0) * columns).sum(axis=1) / temperature
    loss = form(sums, scores, pairs)
    loss.backward()
    found = [loss.numpy()]
    for name in learnt:
        grad = tensors[name].grad
        found.append(np.zeros(arrays[name].shape) if grad is None else grad.numpy())
    return found


@pytest.mark.parametrize("size", [1, 64, 256, 768, 1000])
@pytest.mark.parametrize(
    "form", [symmetric, one_way, with_hard_negatives, equation_one_with_outside_scores]
)
def test_a_loss_over_the_operator_equals_the_one_over_the_reference(form, size):
    generator = np.random.default_rng(size)
    group = np.arange(NUM_ROWS)
    wording = generator.integers(0, 2 * NUM_ROWS, (NUM_ROWS, CAPTIONS))  # some captions recur
    arrays = {
        "rows": unit(generator, NUM_ROWS, size),
        "columns": unit(generator, NUM_ROWS * CAPTIONS, size),
        "temperature": np.array([0.2], np.float32),
        "candidates": unit(generator, NUM_ROWS, NUM_CANDIDATES, size),
        "row_group": group,
        "column_group": group.repeat(CAPTIONS),
        "row_duplicate": wording[:, 0],
        "column_duplicate": wording.ravel(),
    }
    found = loss_and_gradients(form, contrastive_logsumexp, arrays, "float32")
    truth = loss_and_gradients(form, contrastive_logsumexp_reference, arrays, "float64")
    for a, exact in zip(found, truth, strict=True):
        np.testing.assert_allclose(a, exact, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(exact).max()))


def unit(generator: np.random.Generator, *shape: int) -> np.ndarray:
    features = generator.normal(size=shape)
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)
