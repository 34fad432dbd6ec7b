"""Accuracy, F1 and Matthews' correlation against hand counts and the original's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.classification import accuracy, accuracy_and_f1, f1, matthews
from unimo_paddle.metrics.intervals import interval
from unimo_paddle.metrics.original import NAMES

# Two true positives, one false positive, one false negative, three true negatives.
PREDICTIONS, LABELS = [1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0]


def test_values_are_the_ones_counted_by_hand() -> None:
    values = accuracy_and_f1(PREDICTIONS, LABELS)
    assert values == pytest.approx({"accuracy": 5 / 7, "f1": 2 / 3, "accuracy_and_f1": 29 / 42})
    # (2 * 3 - 1 * 1) / sqrt(3 * 3 * 4 * 4)
    assert matthews(PREDICTIONS, LABELS) == pytest.approx(5 / 12)


def recorded_case(shared_dir: Path, index: int) -> dict[str, Any]:
    path = shared_dir / "reference" / "official" / "metrics.json"
    return json.loads(path.read_text())["classification"][index]


@pytest.mark.parametrize("index", range(4))
def test_accuracy_is_the_recorded_one(shared_dir: Path, index: int) -> None:
    case = recorded_case(shared_dir, index)
    assert accuracy(case["preds"], case["labels"]) == case["simple_accuracy"]["acc"]


@pytest.mark.parametrize("index", [0, 1, 3])
def test_values_for_compatibility_are_the_recorded_ones(shared_dir: Path, index: int) -> None:
    case = recorded_case(shared_dir, index)
    values = accuracy_and_f1(case["preds"], case["labels"], compatibility="original")
    recorded = {NAMES[k]: v for k, v in case["acc_and_f1"].items() if k in NAMES}
    assert values == pytest.approx(recorded, abs=1e-14)


@pytest.mark.parametrize("index", [0, 1, 3])
def test_matthews_is_the_recorded_one(shared_dir: Path, index: int) -> None:
    case = recorded_case(shared_dir, index)
    expected = case["matthews_corrcoef"]["mat_cor"]
    assert matthews(case["preds"], case["labels"]) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("index", [0, 1, 3])
def test_f1_by_default_lacks_the_originals_small_constant(shared_dir: Path, index: int) -> None:
    case = recorded_case(shared_dir, index)
    difference = f1(case["preds"], case["labels"]) - case["f1_score"]["f1"]
    # f1 * 1e-8 / (precision + recall), of which f1 is at most half.
    assert 0 < difference <= 0.5e-8 * 1.001


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [
        ([1, 1, 1], [0, 1, 0]),
        ([0, 1, 0], [1, 1, 1]),
        ([1, 1], [1, 1]),
        ([0, 0], [1, 1]),
        ([2], [1]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_matthews_is_zero_where_a_class_is_missing(predictions: list, labels: list) -> None:
    assert matthews(predictions, labels) == 0.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("compatibility", ["standard", "original"])
def test_f1_is_zero_where_the_class_is_nowhere(compatibility: Any) -> None:
    assert f1([0, 0], [0, 0], compatibility=compatibility) == 0.0


def test_f1_counts_any_other_class_as_negative() -> None:
    assert f1([1, 2, 0, 1], [1, 0, 2, 2]) == pytest.approx(2 / 3)


def test_matthews_of_three_classes_is_one_where_all_is_right() -> None:
    assert matthews(["a", "b", "c", "a"], ["a", "b", "c", "a"]) == pytest.approx(1.0)


def test_interval_of_accuracy_holds_it() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=300)
    predictions = np.where(generator.random(300) < 0.8, labels, 1 - labels)
    low, high = interval(accuracy, predictions, labels, seed=1)
    assert low < accuracy(predictions, labels) < high
    # Four standard errors of a share of about 0.8 among 300.
    assert high - low == pytest.approx(4 * np.sqrt(0.16 / 300), rel=0.15)


@pytest.mark.parametrize(("predictions", "labels"), [([], []), ([1], [1, 0]), ([[1]], [[1]])])
def test_predictions_without_their_labels_are_refused(predictions: list, labels: list) -> None:
    with pytest.raises(UserError, match="give one label for each prediction"):
        accuracy(predictions, labels)


def test_unknown_compatibility_is_refused() -> None:
    with pytest.raises(UserError, match="compatibility is 'orignal'; give one of standard, origi"):
        f1([1], [1], compatibility="orignal")  # type: ignore[arg-type]
