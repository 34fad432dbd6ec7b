"""Intervals by the bootstrap against what statistics says, and against one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.intervals import (
    NUM_RESAMPLES,
    bootstrap_interval,
    interval,
    mean_with_interval,
    with_intervals,
)

HITS = np.random.default_rng(0).random(400) < 0.3


def mean(values: np.ndarray) -> float:
    return float(np.mean(values))


def plain_bootstrap(
    metric: Callable[[list[int]], float], groups: Sequence[Any]
) -> tuple[float, float]:
    """The interval of a metric of numbers of items, each draw computed anew from whole groups.

    Groups are numbered as they come, and drawn by the generator that evaluation draws by.
    """
    members: dict[Any, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    lists, rng = list(members.values()), np.random.default_rng(0)
    values = [
        metric([n for place in rng.integers(len(lists), size=len(lists)) for n in lists[place]])
        for _ in range(NUM_RESAMPLES)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def ends(values: dict[str, float], name: str) -> tuple[float, float]:
    return values[f"{name}_low"], values[f"{name}_high"]


def test_interval_of_a_mean_is_four_standard_errors_wide() -> None:
    values = np.random.default_rng(0).normal(size=900)
    low, high = interval(mean, values, seed=1)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 30, rel=0.1)


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    assert interval(mean, HITS, seed=3) == interval(mean, HITS, seed=3)
    assert interval(mean, HITS, seed=3) != interval(mean, HITS, seed=4)


def test_more_confidence_needs_a_wider_interval() -> None:
    low, high = interval(mean, HITS, seed=0, confidence=0.5)
    lower, higher = interval(mean, HITS, seed=0, confidence=0.99)
    assert lower < low < high < higher


def test_lists_are_drawn_like_arrays() -> None:
    assert interval(mean, HITS.tolist(), seed=0) == interval(mean, HITS, seed=0)


def test_columns_are_drawn_together() -> None:
    low, high = interval(lambda a, b: float((a == b).all()), HITS, HITS.copy(), seed=0)
    assert low == high == 1.0


@pytest.mark.parametrize("group_size", [1, 5])
def test_groups_of_hits_have_the_interval_of_their_sums(group_size: int) -> None:
    groups = np.arange(400) // group_size
    by_items = interval(mean, HITS, groups=groups, seed=7)
    assert bootstrap_interval(HITS, groups, seed=7) == pytest.approx(by_items, abs=1e-12)


def test_groups_may_be_named_in_any_order_and_size() -> None:
    hits = np.array([1, 0, 0, 1, 1, 1])
    groups = ["b", "a", "b", "c", "a", "c"]
    by_items = interval(mean, hits, groups=groups, seed=2)
    assert bootstrap_interval(hits, np.array(groups), seed=2) == pytest.approx(by_items)


@pytest.mark.parametrize("columns", [(), ([],), ([1, 2], [1])])
def test_columns_of_different_lengths_are_refused(columns: tuple) -> None:
    with pytest.raises(UserError, match="give equally many, at least one"):
        interval(mean, *columns, seed=0)


def test_a_group_for_each_item_is_demanded() -> None:
    with pytest.raises(UserError, match="interval of 3 items in 2 groups"):
        interval(mean, [1, 2, 3], groups=[0, 1], seed=0)


GROUPS = [f"image {number % 70}" for number in range(400)]


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["alone", "grouped"])
def test_a_mean_has_the_interval_of_a_plain_bootstrap(groups: list[str] | None) -> None:
    found = mean_with_interval("hits", HITS, groups)
    expected = plain_bootstrap(lambda items: HITS[items].mean(), groups or range(400))
    assert ends(found, "hits") == pytest.approx(expected, abs=1e-12)
    assert found["hits"] == pytest.approx(HITS.mean())


def test_every_metric_of_the_columns_has_an_interval() -> None:
    values = np.random.default_rng(1).normal(size=50)
    found = with_intervals({"largest": np.max, "mean": np.mean}, values)
    assert [name for name in found if "_" not in name] == ["largest", "mean"]
    expected = plain_bootstrap(lambda items: values[items].max(), range(50))
    assert ends(found, "largest") == expected
