"""How much memory a computation needs at its peak, read from the system (Linux)."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np

# glibc raises the size above which freed memory goes back to the system each time such memory is
# freed; what it then keeps would be used again unseen. A fixed size keeps readings honest.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak_growth(function: Callable[[], object]) -> tuple[int, str]:
    """Run a function once; return by how many bytes the resident set grew at most, and how read."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):  # glibc's: gives back what is free between used blocks
        library.malloc_trim(0)
    how = _reset_peak()
    before = _status_bytes("VmRSS")
    function()
    if how == "ru_maxrss":
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    else:
        peak = _status_bytes("VmHWM")
    return peak - before, how


def available_bytes() -> int:
    """Memory that a process may take: what is free, or what the control group still grants."""
    meminfo = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines()
    )
    available = 1024 * int(meminfo["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.is_file() and limit.read_text().strip() != "max":
        held = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Files that nobody uses are given up when memory is asked for.
        used = int((group / "memory.current").read_text()) - int(held["inactive_file"])
        available = min(available, int(limit.read_text()) - used)
    return available


def log_log_slope(counts: list[int], values: list[float]) -> float:
    """Return p of the law value ~ count^p that fits best: 1 is linear, 2 quadratic."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def _reset_peak() -> str:
    """Begin a new peak where the system permits it; return what to read afterwards.

    The highest resident set of the whole life of the process, ``ru_maxrss``, misses growth that
    stays under what the imports once took.
    """
    try:
        _CLEAR.write_text("5")
    except OSError:
        return "ru_maxrss"
    return "VmHWM"


def _status_bytes(name: str) -> int:
    for line in _STATUS.read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise AssertionError(f"{_STATUS} has no {name}")
