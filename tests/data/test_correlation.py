"""Correlated projections find what two views share, however small it is in either."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.data.correlation import correlated_projections


def two_views(num_rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """A shared signal, a tenth as loud as the noise that each view has of its own."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(num_rows, 4))
    first = np.concatenate([3 * rng.normal(size=(num_rows, 12)), shared], axis=1)
    second = np.concatenate([shared, 3 * rng.normal(size=(num_rows, 6))], axis=1)
    mix = [np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (16, 10)]
    return first @ mix[0] + 5.0, second @ mix[1] - 2.0


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def recall(first: np.ndarray, second: np.ndarray) -> float:
    return float(((unit(first) @ unit(second).T).argmax(axis=1) == np.arange(len(first))).mean())


def test_what_is_shared_is_found_below_louder_noise() -> None:
    first, second = two_views()
    a, b = correlated_projections(first[:300], second[:300], 8)
    x, y = first[300:] @ a.weight + a.bias, second[300:] @ b.weight + b.bias
    assert recall(x, y) > 0.3  # of 100 rows that no direction was fitted on
    assert recall(first[300:, :10], second[300:]) < 0.1


def test_projections_centre_their_view() -> None:
    views = two_views()
    for view, projection in zip(views, correlated_projections(*views, 8), strict=True):
        projected = view @ projection.weight + projection.bias
        np.testing.assert_allclose(projected.mean(axis=0), 0.0, atol=1e-3 * projected.std())


@pytest.mark.parametrize("size", [3, 10, 20])
def test_projections_have_the_size_asked_for_whatever_the_rank(size: int) -> None:
    a, b = correlated_projections(*two_views(), size)
    assert a.weight.shape == (16, size) and b.weight.shape == (10, size)
    assert a.bias.shape == b.bias.shape == (size,)
    assert not a.weight[:, 10:].any()


def test_constant_columns_change_nothing() -> None:
    first, second = two_views()
    wider = np.concatenate([first, np.full((len(first), 2), 7.0)], axis=1)
    similarities = []
    for view in (first, wider):
        a, b = correlated_projections(view, second, 8)
        # Directions may change their sign, in both views at once.
        scores = unit(view @ a.weight + a.bias) @ unit(second @ b.weight + b.bias).T
        similarities.append(scores.ravel())
    assert np.corrcoef(similarities)[0, 1] > 0.99
