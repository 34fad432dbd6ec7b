"""Benchmarks that compare the fused operators with other forms of the same computation."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]  # one line of a table: column name -> value


def interleave(
    ours: Callable[[], object], peer: Callable[[], object], *, num_rounds: int, warmup: int = 2
) -> dict[str, float]:
    """Time two functions A B A B, so that a noisy machine disturbs both alike.

    Returns:
        Median milliseconds of each, and the median and the 10-90 % range of peer / ours by round.
    """
    for _ in range(warmup):
        ours()
        peer()
    times = np.array([[_seconds(ours), _seconds(peer)] for _ in range(num_rounds)])
    ratio = times[:, 1] / times[:, 0]
    low, high = np.percentile(ratio, [10, 90])
    return {
        "ours_ms": 1e3 * float(np.median(times[:, 0])),
        "paddle_ms": 1e3 * float(np.median(times[:, 1])),
        "ratio": float(np.median(ratio)),
        "ratio_10": float(low),
        "ratio_90": float(high),
    }


def machine() -> dict[str, str]:
    """The processor and the versions that a figure belongs to."""
    import paddle

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "paddle": paddle.__version__,
    }


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
