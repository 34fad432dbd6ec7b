"""Confidence intervals of any metric by the bootstrap (percentile method; Efron, 1979).

What is added up over items is drawn as such sums, never counted anew, so a thousand draws cost
little: docs/metrics.md says how much.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from unimo_paddle.errors import UserError

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0  # of what an evaluation tells: the same numbers have the same interval


def interval(
    metric: Callable[..., float],
    *columns: Sequence[Any] | np.ndarray,
    seed: int,
    groups: Sequence[Any] | np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Return the interval of ``metric(*columns)`` when other items had been drawn.

    Items are drawn again with replacement, as many as there are, and the metric is computed of
    each draw: ``interval(accuracy, predictions, labels, seed=0)``. A metric that returns several
    values needs one picked: ``lambda p, y: pearson_and_spearman(p, y)["pearson"]``.

    Args:
        columns: of equal length, one entry an item: arrays, indexed along axis 0, or lists.
        groups: [N]; items of equal groups are drawn together (captions of one image, say).
        confidence: share of the draws whose values the interval holds.
    """
    lengths = {len(column) for column in columns}
    if len(lengths) != 1 or lengths == {0}:
        found = ", ".join(str(len(column)) for column in columns) or "no columns"
        raise UserError(f"interval of columns of {found} items; give equally many, at least one")
    (num_items,) = lengths
    members = _members_of(groups, num_items)
    generator = np.random.default_rng(seed)
    values = np.empty(num_resamples)
    for i in range(num_resamples):
        drawn = generator.integers(len(members), size=len(members))
        items = drawn if groups is None else np.concatenate([members[j] for j in drawn])
        values[i] = metric(*(_pick(column, items) for column in columns))
    return _middle(values, confidence)


def with_intervals(
    metrics: Mapping[str, Callable[..., float]], *columns: Sequence[Any] | np.ndarray
) -> dict[str, float]:
    """Each metric of the columns, between ``_low`` and ``_high``.

    These are its 95 % bootstrap interval.
    """
    values: dict[str, float] = {}
    for name, metric in metrics.items():
        low, high = interval(metric, *columns, seed=SEED)
        values |= {name: float(metric(*columns)), f"{name}_low": low, f"{name}_high": high}
    return values


def mean_with_interval(
    name: str, values: np.ndarray, groups: Sequence[Hashable] | None = None
) -> dict[str, float]:
    """The mean of what each item [N] scored, as ``with_intervals``.

    Args:
        groups: [N]; items of equal groups are drawn together.
    """
    values = np.asarray(values, np.float64)
    if groups is None:
        return with_intervals({name: np.mean}, values)
    columns = sums_of_groups(groups, values, np.ones(len(values)))
    return with_intervals({name: lambda sums, counts: sums.sum() / counts.sum()}, *columns)


def sums_of_groups(
    groups: Sequence[Hashable] | None, *columns: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Each column [N] or [N, K] added up over the items of a group; as it is without groups."""
    if groups is None:
        return columns
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(group, len(numbers)) for group in groups]
    totals = [np.zeros((len(numbers), *column.shape[1:]), column.dtype) for column in columns]
    for total, column in zip(totals, columns, strict=True):
        np.add.at(total, index, column)
    return tuple(totals)


def bootstrap_interval(is_hit: np.ndarray, groups: np.ndarray, *, seed: int) -> tuple[float, float]:
    """Return the interval of a mean of [N] numbers, such as hits, had other groups been drawn.

    Whole groups are drawn again with replacement: captions of one image succeed and fail together.
    It is ``interval`` of the mean, on one sum a group instead of all hits.
    """
    _, index = np.unique(groups, return_inverse=True)
    sums = np.bincount(index, weights=is_hit)
    return interval(
        lambda hits, sizes: hits.sum() / sizes.sum(), sums, np.bincount(index), seed=seed
    )


def _members_of(groups: Sequence[Any] | np.ndarray | None, num_items: int) -> Sequence[Any]:
    """The items of each group; without groups every item is its own."""
    if groups is None:
        return range(num_items)
    if len(groups) != num_items:
        raise UserError(f"interval of {num_items} items in {len(groups)} groups; give one an item")
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(index, kind="stable")
    return np.split(order, np.cumsum(np.bincount(index))[:-1])


def _pick(column: Sequence[Any] | np.ndarray, items: np.ndarray) -> Any:
    return column[items] if isinstance(column, np.ndarray) else [column[i] for i in items]


def _middle(values: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)
