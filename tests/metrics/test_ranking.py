"""Reciprocal ranks and average precision against hand counts and the original's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.ranking import mean_average_precision, mean_reciprocal_rank


@pytest.mark.parametrize(
    ("queries", "scores", "labels", "reciprocal", "precision"),
    [
        ([0, 0, 0], [0.9, 0.8, 0.1], [0, 1, 0], 1 / 2, 1 / 2),
        ([0, 0, 0], [0.1, 0.8, 0.9], [1, 1, 0], 1 / 2, (1 / 2 + 2 / 3) / 2),
        ([0, 0], [0.1, 0.2], [0, 0], 0.0, 0.0),
        ([7], [0.5], [1], 1.0, 1.0),
        # Queries in turns: ranks 1 and 2 of the first, rank 2 of the second.
        ([5, 3, 5, 3], [0.9, 0.6, 0.8, 0.7], [1, 1, 1, 0], 3 / 4, 3 / 4),
        ([0, 0, 0], [0.5, 0.5, 0.5], [1, 0, 0], 1 / 3, 1 / 3),  # ties count against the query
    ],
)
def test_values_are_the_ones_counted_by_hand(
    queries: list, scores: list, labels: list, reciprocal: float, precision: float
) -> None:
    assert mean_reciprocal_rank(queries, scores, labels) == pytest.approx(reciprocal)
    assert mean_average_precision(queries, scores, labels) == pytest.approx(precision)


@pytest.mark.parametrize(("labels", "expected"), [([1, 0, 0], 1.0), ([0, 0, 1], 1 / 3)])
def test_ties_keep_their_order_in_the_original(labels: list[int], expected: float) -> None:
    columns = ([0, 0, 0], [0.5, 0.5, 0.5], labels)
    assert mean_reciprocal_rank(*columns, compatibility="original") == pytest.approx(expected)
    assert mean_average_precision(*columns, compatibility="original") == pytest.approx(expected)


def test_values_are_the_recorded_ones(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "official" / "metrics.json"
    recorded = json.loads(path.read_text())["mrr_map"]
    columns = list(zip(*recorded["preds"], strict=True))
    assert mean_reciprocal_rank(*columns, compatibility="original") == recorded["mrr"]
    assert mean_average_precision(*columns, compatibility="original") == recorded["map"]


@pytest.mark.parametrize("columns", [([], [], []), ([0], [0.5, 0.1], [1])])
def test_columns_that_do_not_match_are_refused(columns: tuple) -> None:
    with pytest.raises(UserError, match="give one of each a candidate"):
        mean_reciprocal_rank(*columns)
