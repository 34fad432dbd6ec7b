"""The inputs are those that the forms assume, and different answers do not pass for equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unimo_paddle.benchmarks.cases import (
    TOLERANCE,
    BenchmarkError,
    Case,
    Results,
    check_results,
    make_inputs,
)
from unimo_paddle.errors import UserError

CASE = Case(6, 4, positives=2, negatives=3)


def results(loss: float = 2.0, **changes: np.ndarray) -> Results:
    gradients = {"rows": np.ones((3, 2)), "temperature": np.full(1, -5.0)}
    return Results(loss, gradients | changes)


def test_the_same_seed_gives_the_same_inputs():
    first, second = make_inputs(CASE), make_inputs(CASE)
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.candidates, second.candidates)


@pytest.mark.parametrize("name", ["rows", "columns", "candidates"])
def test_features_have_length_one(name):
    lengths = np.linalg.norm(getattr(make_inputs(CASE), name), axis=-1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def test_the_positive_indices_are_the_members_of_the_group():
    inputs = make_inputs(CASE)
    members = [np.flatnonzero(inputs.groups == group).tolist() for group in inputs.groups]
    assert inputs.positive_indices.tolist() == members


def test_rows_that_leave_a_group_incomplete_are_refused():
    with pytest.raises(UserError, match="7 rows cannot form groups of 2"):
        make_inputs(replace(CASE, count=7))


def test_the_operations_are_four_products_and_three_of_the_candidates():
    assert Case(10, 3).operations == 4 * (2 * 10 * 10 * 3)
    assert Case(10, 3, 2, 5).operations == 4 * (2 * 10 * 10 * 3) + 3 * (2 * 10 * 5 * 3)


def test_answers_within_the_tolerance_agree():
    near = np.ones((3, 2)) + 0.9 * TOLERANCE
    check_results("a peer", CASE, found=results(rows=near), expected=results())


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (results(loss=2.001), "the loss"),
        (results(loss=float("nan")), "the loss"),
        (results(rows=np.diag([1.0, 1.0, 1.0])[:, :2]), "the gradient of rows"),
        (results(rows=np.full((3, 2), np.nan)), "the gradient of rows"),
        (results(temperature=np.full(1, 5.0)), "the gradient of temperature"),
    ],
    ids=["loss", "NaN loss", "rows", "NaN rows", "sign"],
)
def test_a_different_answer_stops_and_says_what_differs(found, what):
    with pytest.raises(BenchmarkError, match=f"{what} of a peer differs from ours"):
        check_results("a peer", CASE, found=found, expected=results())


def test_a_missing_gradient_stops():
    found = Results(2.0, {"rows": np.ones((3, 2))})
    with pytest.raises(BenchmarkError, match="a peer has gradients of"):
        check_results("a peer", CASE, found=found, expected=results())


def test_a_gradient_of_another_shape_stops():
    found = results(rows=np.ones((1, 2)))
    with pytest.raises(BenchmarkError, match="has shape"):
        check_results("a peer", CASE, found=found, expected=results())
