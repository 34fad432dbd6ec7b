"""The nearest rows: exact ones are those of brute force, approximate ones nearly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from unimo_paddle.data.mining.neighbours import (
    NO_NEIGHBOUR,
    DenseTable,
    SparseTable,
    warn_if_alike,
)

SIZE = 24


def unit_rows(count: int, seed: int, *, num_centres: int = 0) -> np.ndarray:
    """Rows of length one in any direction, or around centres."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, SIZE))
    if num_centres:
        centres = np.random.default_rng(9).normal(size=(num_centres, SIZE))
        rows = 0.6 * rows + centres[rng.integers(num_centres, size=count)] * 2
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def brute_force(queries: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the nearest rows of each query."""
    scores = queries.astype(np.float32) @ rows.astype(np.float32).T
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def dense(folder: Path, rows: np.ndarray, kept: np.ndarray, **options: int) -> DenseTable:
    chunks = np.array_split(rows, 3)
    return DenseTable(chunks, kept, path=folder / "index.faiss", **options)


def test_exact_neighbours_are_those_of_brute_force(tmp_path: Path) -> None:
    rows, queries = unit_rows(500, 0), unit_rows(20, 1)
    found = dense(tmp_path, rows, np.arange(500)).nearest(queries, 10)
    assert found["numbers"].tolist() == brute_force(queries, rows, 10).tolist()


def test_scores_are_inner_products(tmp_path: Path) -> None:
    rows, queries = unit_rows(50, 0), unit_rows(4, 1)
    found = dense(tmp_path, rows, np.arange(50)).nearest(queries, 3)
    products = np.einsum("qd,qkd->qk", queries.astype(float), rows[found["numbers"]].astype(float))
    # Scores are kept in float16: half a unit in the last of 11 bits below 1.
    np.testing.assert_allclose(found["scores"], products, atol=2**-11)


def test_rows_that_are_not_kept_are_never_found(tmp_path: Path) -> None:
    rows = unit_rows(60, 0)
    kept = np.arange(1, 60, 2)
    found = dense(tmp_path, rows, kept).nearest(rows, 5)
    assert set(found["numbers"].ravel().tolist()) <= set(kept.tolist())


def test_approximate_neighbours_are_nearly_those_of_brute_force(tmp_path: Path) -> None:
    rows = unit_rows(6000, 0, num_centres=40)
    queries = unit_rows(50, 1, num_centres=40)
    table = dense(tmp_path, rows, np.arange(6000), exact_rows=1000)
    found = table.nearest(queries, 10)["numbers"]
    right = brute_force(queries, rows, 10)
    shares = [
        len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), right.tolist(), strict=True)
    ]
    assert not table.is_exact and np.mean(shares) > 0.9


def test_an_approximate_index_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    rows, queries = unit_rows(3000, 0), unit_rows(10, 1)
    first = dense(tmp_path, rows, np.arange(3000), exact_rows=100).nearest(queries, 5)
    again = dense(tmp_path, rows, np.arange(3000), exact_rows=100).nearest(queries, 5)
    assert first.tobytes() == again.tobytes()


def test_a_query_of_zeros_has_no_neighbours(tmp_path: Path) -> None:
    found = dense(tmp_path, unit_rows(9, 0), np.arange(9)).nearest(np.zeros((2, SIZE)), 4)
    assert (found["numbers"] == NO_NEIGHBOUR).all()


def test_fewer_rows_than_asked_for_leave_the_rest_empty(tmp_path: Path) -> None:
    found = dense(tmp_path, unit_rows(3, 0), np.arange(3)).nearest(unit_rows(2, 1), 5)
    assert (found["numbers"][:, 3:] == NO_NEIGHBOUR).all()
    assert sorted(found["numbers"][0, :3].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(("spread", "is_told"), [(0.01, True), (1.0, False)])
def test_features_that_hardly_differ_are_told(caplog, spread: float, is_told: bool) -> None:
    rows = np.ones((30, SIZE)) + spread * np.random.default_rng(0).normal(size=(30, SIZE))
    warn_if_alike([rows / np.linalg.norm(rows, axis=1, keepdims=True)], "features")
    assert ("learnt too little" in caplog.text) == is_told


def sparse_rows(count: int, seed: int) -> sparse.csr_matrix:
    return sparse.random(count, 40, 0.15, "csr", np.float32, random_state=seed)


def in_parts(folder: Path, rows: sparse.csr_matrix, size: int) -> SparseTable:
    paths = []
    for start in range(0, rows.shape[0], size):
        paths.append(folder / f"{start}.npz")
        sparse.save_npz(paths[-1], rows[start : start + size].T.tocsr())
    return SparseTable(paths, size)


@pytest.mark.parametrize("size", [7, 50, 300])
def test_sparse_neighbours_are_exact_however_the_table_is_cut(tmp_path: Path, size: int) -> None:
    rows, queries = sparse_rows(300, 0), sparse_rows(15, 1)
    found = in_parts(tmp_path, rows, size).nearest(queries, 6)
    products = np.asarray((queries @ rows.T).todense()).astype(np.float16)
    order = np.argsort(-products.astype(np.float32), axis=1, kind="stable")[:, :6]
    expected = np.where(np.take_along_axis(products, order, 1) > 0, order, NO_NEIGHBOUR)
    assert found["numbers"].tolist() == expected.tolist()


def test_rows_without_a_word_in_common_are_no_neighbours(tmp_path: Path) -> None:
    rows = sparse.csr_matrix(np.eye(4, 6, dtype=np.float32))
    found = in_parts(tmp_path, rows, 2).nearest(rows[:1], 3)
    assert found["numbers"].tolist() == [[0, NO_NEIGHBOUR, NO_NEIGHBOUR]]
