"""What concerns a whole process: settings that Paddle leaves as the system has them, and its end.

The settings are for speed alone: a small model that had learnt for ten minutes ran at half its
speed without them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

STOPPED_CODE = 75  # exit code of a run that was told to stop and saved a checkpoint
PROGRESS_VARIABLE = "UNIMO_PROGRESS_FILE"  # names the file that is touched with every progress
RESTARTS_VARIABLE = "UNIMO_RESTARTS"  # how often a launcher has started the job again

# Of glibc's mallopt(3), with the environment variables that a user may have set instead.
_TRIM_THRESHOLD = (-1, "MALLOC_TRIM_THRESHOLD_")
_TOP_PAD = (-2, "MALLOC_TOP_PAD_")
_MMAP_THRESHOLD = (-3, "MALLOC_MMAP_THRESHOLD_")
_VALUES = {
    _TRIM_THRESHOLD: 1 << 30,  # bytes kept at the end of the heap
    _TOP_PAD: 1 << 26,  # bytes by which the heap grows at once
    _MMAP_THRESHOLD: 1 << 25,  # larger blocks still go back at once; glibc takes no higher limit
}

# Where C's fenv_t holds the control word of vector arithmetic, and what flushes denormals there.
_FLOATING_POINT_CONTROL = {
    "x86_64": (28, 1 << 15 | 1 << 6),  # MXCSR: results to zero, operands as zero
    "aarch64": (0, 1 << 24),  # FPCR: both
}
_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)
# Loaded early: a child that is just forked may not take locks.
_LIBC = ctypes.CDLL(None)
_ENVIRONMENT_BYTES = 64  # more than fenv_t has anywhere


def tune_process() -> None:
    """Keep freed memory and flush denormals: before anything else makes threads."""
    keep_freed_memory()
    flush_denormals()


def keep_freed_memory() -> bool:
    """Let the C library keep up to 1 GiB of freed memory; return whether it does.

    Paddle allocates each activation anew. glibc gives such blocks back to the system as soon as
    they are free at the end of the heap, and the system clears every page again when it is next
    touched. Nothing happens where the user has set any of the limits, or where the C library is
    not glibc.
    """
    if not hasattr(_LIBC, "mallopt") or any(name in os.environ for _, name in _VALUES):
        return False
    return all(_LIBC.mallopt(option, value) == 1 for (option, _), value in _VALUES.items())


def flush_denormals() -> bool:
    """Let float32 numbers below 1.2e-38 count as zero; return whether they do.

    Processors take a hundred times as long for them, and learning makes ever more: the averages of
    gradients that are zero by now, and gradients of answers that are certain by now. It holds for
    the calling thread and for threads that it makes afterwards, so call it early. Nothing happens
    on processors other than x86-64 and 64-bit ARM, or where the C library is not glibc.
    """
    control = _FLOATING_POINT_CONTROL.get(platform.machine())
    if control is None:
        return False
    offset, bits = control
    try:
        library = ctypes.CDLL("libm.so.6")
    except OSError:  # another C library than glibc
        return False
    environment = ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
    if library.fegetenv(environment) != 0:
        return False
    word = ctypes.c_uint32.from_buffer(environment, offset)
    word.value |= bits
    return library.fesetenv(environment) == 0


class StopRequest:
    """Whether the process was told to stop."""

    def __init__(self) -> None:
        self.is_made = False
        self._handlers: dict[int, object] = {}

    def _take(self, number: int, _frame: object) -> None:
        """Of the first signal; the next one does what it did before."""
        self.is_made = True
        self.release()

    def listen(self) -> None:
        """Take SIGTERM and SIGINT as requests."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._take)

    def release(self) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Take the first SIGTERM or SIGINT as a request to stop; only the main thread can."""
    request = StopRequest()
    if threading.current_thread() is threading.main_thread():
        request.listen()
    try:
        yield request
    finally:
        request.release()


def ignore_stops() -> None:
    """Let SIGTERM pass from now on, in a process that has saved what it had to and only ends.

    Where several are told to stop, a vote ends all: a launcher's signal may come behind it, and the
    run would seem to have been killed instead of saved.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def die_with_parent() -> None:
    """In a child, before it begins: end when the parent is killed. Linux only; else nothing."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def report_progress() -> None:
    """Tell a launcher that watches this process that it goes on."""
    path = os.environ.get(PROGRESS_VARIABLE)
    if path:
        Path(path).touch()


def is_restarted() -> bool:
    """Whether a launcher has started this process's job again, after a failure."""
    return os.environ.get(RESTARTS_VARIABLE, "0") != "0"
