"""UNIMO on PaddlePaddle: one Transformer learned from text, images and pairs of both.

Importing the package sets defaults of the environment that Paddle reads only once, when it is
imported or multiplies its first matrices; a value that the user has set is kept. See
``environment_defaults`` for what was set. Paddle itself is not imported here.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

__version__ = "0.1.0"


def _is_amd() -> bool:
    """Whether the processor is AMD's, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text(errors="replace")


def _quota() -> float:
    """The number of processors that the control group grants, infinite when it sets no limit."""
    limit = Path("/sys/fs/cgroup/cpu.max")
    if not limit.is_file():
        return float("inf")
    quota, period = limit.read_text().split()
    return float("inf") if quota == "max" else int(quota) / int(period)


def _num_threads() -> int:
    """Physical cores that this process may use, shared fairly with the other local ranks."""
    if hasattr(os, "sched_getaffinity"):
        processors = os.sched_getaffinity(0)
    else:
        processors = set(range(os.cpu_count() or 1))
    cores = set()
    for processor in processors:
        topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology")
        if (topology / "core_id").is_file():
            package = (topology / "physical_package_id").read_text().strip()
            cores.add((package, (topology / "core_id").read_text().strip()))
        else:
            cores.add((str(processor), ""))
    local_ranks = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
    return max(1, int(min(len(cores), _quota())) // local_ranks)


def _set_environment_defaults() -> dict[str, str]:
    """Set what is unset and return it."""
    defaults = {
        "OMP_NUM_THREADS": str(_num_threads()),
        # NumPy multiplies little matrices while Paddle trains; threads of its own that wait for
        # more of them took a sixth of the processors.
        "OPENBLAS_NUM_THREADS": "1",
        # One order of operators: the same speed, half the memory, collectives never out of step.
        "FLAGS_new_executor_serial_run": "1",
        # The order in which they were built, so that what is computed again is so when it is due.
        "FLAGS_enable_pir_in_executor_trace_run": "1",
        # Paddle's own notes (which executor it uses, and the like) help nobody; errors stay.
        "GLOG_minloglevel": "2",
    }
    if _is_amd():
        # Paddle's MKL takes its slow path on AMD processors unless told otherwise.
        defaults["MKL_DEBUG_CPU_TYPE"] = "5"
    chosen = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(chosen)
    return chosen


# Paddle advises everyone who imports it to install a compiler cache; nothing here would use it.
warnings.filterwarnings("ignore", message="No ccache found")

environment_defaults = _set_environment_defaults()

if environment_defaults:
    _setting = " ".join(f"{name}={value}" for name, value in environment_defaults.items())
    _late = " (too late for some: paddle was imported first)" if "paddle" in sys.modules else ""
    logging.getLogger(__name__).info("environment defaults: %s%s", _setting, _late)
