"""Scores with their intervals: as a table for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unimo_paddle.data.publish import write_whole
from unimo_paddle.metrics.intervals import bootstrap_interval, interval

SEED = 0  # of the draws of an interval


@dataclass(frozen=True)
class Score:
    """One value, with the ends of its 95 % bootstrap interval where that was asked for."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


def mean_score(
    name: str, values: np.ndarray, *, with_interval: bool, groups: np.ndarray | None = None
) -> Score:
    """Return the mean of what each item scored.

    Args:
        values: [S].
        groups: [S]; items of equal groups are drawn together (questions about one image, say).
    """
    value = float(np.mean(values))
    if not with_interval:
        return Score(name, value)
    members = np.arange(len(values)) if groups is None else groups
    return Score(name, value, *bootstrap_interval(values, members, seed=SEED))


def whole_score(
    name: str, metric: Callable[..., float], *columns: np.ndarray, with_interval: bool
) -> Score:
    """Return a metric of all items together, which is not the mean of theirs."""
    value = float(metric(*columns))
    if not with_interval:
        return Score(name, value)
    return Score(name, value, *interval(metric, *columns, seed=SEED))


def format_scores(scores: Sequence[Score]) -> str:
    """A line for each score."""
    width = max(len(score.name) for score in scores)
    lines = []
    for score in scores:
        ends = "" if score.low is None else f"   {score.low:.4f} to {score.high:.4f}"
        lines.append(f"  {score.name:<{width}}  {score.value:>8.4f}{ends}")
    return "\n".join(lines)


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write JSON: each score by name, its interval as ``<name>_low`` and ``<name>_high``."""
    values: dict[str, float | None] = {}
    for score in scores:
        values[score.name] = score.value
        if score.low is not None:
            values |= {f"{score.name}_low": score.low, f"{score.name}_high": score.high}
    write_whole(path, json.dumps(values, indent=1) + "\n")
