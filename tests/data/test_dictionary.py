"""Entries of a dictionary of patches."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.data.dictionary import fit_dictionary
from unimo_paddle.errors import UserError


def pieces(seed: int = 0) -> np.ndarray:
    """Rows of five kinds, spread out more along some columns than along others."""
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((5, 6)) * 3
    rows = kinds[rng.integers(0, 5, 2000)] + 0.3 * rng.standard_normal((2000, 6))
    return (rows * [20, 5, 1, 1, 1, 1] + 7).astype(np.float32)


def test_entries_are_the_kinds_that_there_are() -> None:
    rows = pieces()
    weight, bias, entries = fit_dictionary(rows, 5, seed=0)
    whitened = rows @ weight + bias
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    distances = np.linalg.norm(whitened[:, None] - entries, axis=2)
    nearest, second = np.sort(distances, axis=1)[:, :2].T
    assert np.median(nearest) < 0.5 * np.median(second)
    assert len(set(distances.argmin(axis=1))) == 5


def test_whitening_makes_what_is_loud_as_loud_as_the_rest() -> None:
    weight, bias, _ = fit_dictionary(pieces(), 5, seed=0)
    before = pieces().std(axis=0)
    after = (pieces() @ weight + bias).std(axis=0)
    assert after.max() / after.min() < 0.5 * before.max() / before.min()


def test_the_same_pieces_give_the_same_entries() -> None:
    for one, other in zip(*(fit_dictionary(pieces(), 5, seed=0) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_few_pieces_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"3 pieces, fewer than the 5 entries of model\.patch_dict"):
        fit_dictionary(pieces()[:3], 5, seed=0)
