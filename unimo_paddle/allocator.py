"""Memory that an update frees stays with the process for the next one.

Paddle allocates each activation anew. glibc gives such blocks back to the system as soon as they
are free at the end of the heap, and the system clears every page again when it is next touched:
a small model lost a sixth of its time to that.
"""

from __future__ import annotations

import ctypes
import os

# Of glibc's mallopt(3), with the environment variables that a user may have set instead.
_TRIM_THRESHOLD = (-1, "MALLOC_TRIM_THRESHOLD_")
_TOP_PAD = (-2, "MALLOC_TOP_PAD_")
_MMAP_THRESHOLD = (-3, "MALLOC_MMAP_THRESHOLD_")
_VALUES = {
    _TRIM_THRESHOLD: 1 << 30,  # bytes kept at the end of the heap
    _TOP_PAD: 1 << 26,  # bytes by which the heap grows at once
    _MMAP_THRESHOLD: 1 << 25,  # larger blocks still go back at once; glibc takes no higher limit
}


def keep_freed_memory() -> bool:
    """Let the C library keep up to 1 GiB of freed memory; return whether it does.

    For programs that are ours from the beginning: it holds for the whole process. Nothing happens
    where the user has set any of the limits, or where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or any(name in os.environ for _, name in _VALUES):
        return False
    return all(library.mallopt(option, value) == 1 for (option, _), value in _VALUES.items())
