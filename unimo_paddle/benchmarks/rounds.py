"""Peers take turns, round by round, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle.benchmarks.peers import LIMITS
from unimo_paddle.benchmarks.workers import Worker

# After their last task Intel's OpenMP threads stay awake for 0.2 s, on processors that the next
# worker needs. With one thread there are none.
PAUSE_SECONDS = 0.25


@dataclass(frozen=True)
class Spread:
    """The middle of the rounds and their 10-90 % range."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: np.ndarray) -> Spread:
        """The spread of values, one a round."""
        low, median, high = np.percentile(values, [10, 50, 90])
        return Spread(float(median), float(low), float(high))

    def show(self, form: str) -> str:
        """The middle and the range, each in a form such as ``{:.2f}``."""
        return f"{form.format(self.median)} ({form.format(self.low)}-{form.format(self.high)})"


@dataclass(frozen=True)
class Rounds:
    """What each peer took at one case, round by round.

    Attributes:
        seconds: [rounds] by name of the peer.
        limits: [rounds] by name: what the machine could do in each round.
    """

    seconds: dict[str, np.ndarray]
    limits: dict[str, np.ndarray]


def take_turns(
    case: Any,
    workers: Sequence[Worker],
    *,
    num_rounds: int,
    check: Callable[[str, Any, Any], None],
    progress: tqdm,
) -> Rounds:
    """Measure a case, once all have given the same answer.

    Args:
        workers: of the peers, ours first, and of limits.
        check: (name, what the peer found, what ours found); raises where they differ.
        progress: counts a step a peer and round, and two to prepare.
    """
    expected = None
    for worker in workers:
        worker.prepare(case)
        progress.update(2)
        if worker.peer.name in LIMITS:
            continue
        found = worker.results()
        expected = found if expected is None else expected
        check(worker.peer.name, found, expected)
    seconds: dict[str, list[float]] = {worker.peer.name: [] for worker in workers}
    limits: dict[str, list[float]] = {name: [] for name in LIMITS if name in seconds}
    for _ in range(num_rounds):
        for worker in workers:
            time.sleep(PAUSE_SECONDS)
            taken, value = worker.measure()
            seconds[worker.peer.name].append(taken)
            if worker.peer.name in limits:
                limits[worker.peer.name].append(value)
            progress.update()
    return Rounds(
        {name: np.array(values) for name, values in seconds.items() if name not in limits},
        {name: np.array(values) for name, values in limits.items()},
    )
