"""Correlations against hand-worked numbers and the original's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.metrics.intervals import interval
from unimo_paddle.metrics.original import NAMES
from unimo_paddle.metrics.regression import pearson, pearson_and_spearman, spearman


def test_values_are_the_ones_worked_out_by_hand() -> None:
    # Deviations (-1.5, -.5, .5, 1.5) and (-2, -1, 0, 3): 8 / sqrt(5 * 14). Ranks are equal.
    values = pearson_and_spearman([1, 2, 3, 4], [0, 1, 2, 5])
    assert values["pearson"] == pytest.approx(8 / np.sqrt(70))
    assert values["spearman"] == pytest.approx(1.0)
    assert values["pearson_and_spearman"] == pytest.approx(0.5 + 4 / np.sqrt(70))


def test_equal_numbers_share_their_mean_rank() -> None:
    # Ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4): 4.5 / sqrt(4.5 * 5).
    assert spearman([1, 2, 2, 3], [10, 20, 30, 40]) == pytest.approx(np.sqrt(0.9))


@pytest.mark.parametrize("index", range(3))
def test_values_are_the_recorded_ones(shared_dir: Path, index: int) -> None:
    path = shared_dir / "reference" / "official" / "metrics.json"
    case = json.loads(path.read_text())["regression"][index]
    recorded = {NAMES[k]: v for k, v in case["pearson_and_spearman"].items() if k in NAMES}
    found = pearson_and_spearman(case["preds"], case["labels"])
    assert len(recorded) == 3
    assert found == pytest.approx(recorded, abs=1e-14)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("measure", [pearson, spearman])
@pytest.mark.parametrize(
    ("predictions", "labels"), [([2.0, 2.0, 2.0], [1, 2, 3]), ([1, 2, 3], [0, 0, 0]), ([1], [2])]
)
def test_correlation_with_a_constant_is_zero(measure, predictions: list, labels: list) -> None:
    assert measure(predictions, labels) == 0.0


def test_predictions_that_are_no_numbers_have_no_correlation() -> None:
    assert np.isnan(pearson([1.0, float("nan"), 2.0], [1.0, 2.0, 3.0]))


@pytest.mark.filterwarnings("error")
def test_interval_of_a_correlation_stands_draws_of_one_item() -> None:
    low, high = interval(pearson, np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]), seed=0)
    assert -1.0 <= low <= high <= 1.0
