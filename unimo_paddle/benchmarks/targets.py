"""What the contrastive operator must reach, and whether measured rows do."""

from __future__ import annotations

from dataclasses import dataclass

from unimo_paddle.benchmarks.hardware import Processor
from unimo_paddle.benchmarks.memory import MemoryRow
from unimo_paddle.benchmarks.peers import INF_CL, OURS, TUNED_PADDLE
from unimo_paddle.benchmarks.resident import log_log_slope
from unimo_paddle.benchmarks.speed import SpeedRow

_OF_LIMIT = 0.85
_OVER_PADDLE = {256: 1.5, 768: 1.1}  # by D: the larger it is, the less the matrix costs beside it
_OVER_INF_CL = 2.2  # ten products against four would be 2.5 at equal rates
_SPEED_COUNTS = (4096, 8192)
_MAX_SLOPE = 1.02
_OVER_MINIMUM = 1.3
_UNDER_STORED = 20.0
_STORED_COUNT = 8192
_MEMORY_SIZE = 256


@dataclass(frozen=True)
class Target:
    """One bound on one measured number.

    Attributes:
        text: what is bounded, without the bound.
        value: what was measured.
        bound: what it must reach; with ``is_minimum`` false, must not exceed.
    """

    text: str
    value: float
    bound: float
    is_minimum: bool = True

    @property
    def is_met(self) -> bool:
        """Whether the measured number keeps the bound; NaN does not."""
        return self.value >= self.bound if self.is_minimum else self.value <= self.bound

    @property
    def condition(self) -> str:
        """The bound as tables show it."""
        return f"{'>=' if self.is_minimum else '<='} {self.bound:g}"


def speed_target(row: SpeedRow, processor: Processor) -> Target | None:
    """Return the target that a row of the table is held to, None where there is none.

    The ratios to peers hold on AMD processors with AVX-512, where they were set; elsewhere MKL
    takes other paths, and the limit alone says how good the operator is.
    """
    case = row.case
    if case.has_sets or case.count not in _SPEED_COUNTS or case.size not in _OVER_PADDLE:
        return None
    where = f"{case}, threads {row.threads}"
    if row.peer == OURS:
        return Target(f"share of the limit at {where}", row.of_limit.median, _OF_LIMIT)
    bounds = {TUNED_PADDLE: _OVER_PADDLE[case.size], INF_CL: _OVER_INF_CL}
    if row.peer not in bounds or not (processor.is_amd and processor.has_avx512):
        return None
    text = f"time of '{row.peer}' over ours at {where}"
    return Target(text, row.of_ours.median, bounds[row.peer])


def memory_targets(rows: list[MemoryRow]) -> list[Target]:
    """Return the targets that the rows allow to judge; a quick run may allow none."""
    ours = [row for row in rows if row.peer == OURS and row.case.size == _MEMORY_SIZE]
    counts = [row.case.count for row in ours]
    if len(counts) < 2 or _STORED_COUNT not in counts:
        return []
    slope = log_log_slope(counts, [row.total for row in ours])
    largest = max(ours, key=lambda row: row.case.count)
    text = f"our memory over the minimum (inputs and gradients) at {largest.case}"
    targets = [
        Target("log-log slope of our memory over N", slope, _MAX_SLOPE, is_minimum=False),
        Target(text, largest.total / largest.minimum, _OVER_MINIMUM, is_minimum=False),
    ]
    stored = [r for r in rows if r.peer == TUNED_PADDLE and r.case.count == _STORED_COUNT]
    for row in stored:
        (mine,) = (r for r in ours if r.case == row.case)
        ratio = row.extra / mine.extra if mine.extra > 0 else float("inf")
        text = f"extra memory of '{row.peer}' over ours at {row.case}"
        targets.append(Target(text, ratio, _UNDER_STORED))
    return targets
