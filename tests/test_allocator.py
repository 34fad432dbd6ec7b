"""Freed memory that stays with the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Blocks as activations are: allocated, written, freed, and all that again. The last line printed is
# the number of pages that the system had to give in the second round.
SCRIPT = """
import ctypes, resource, sys
from unimo_paddle.allocator import keep_freed_memory

print(keep_freed_memory() if sys.argv[1] == "keep" else None)
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]

def round():
    blocks = [library.malloc(1 << 21) for _ in range(96)]
    for block in blocks:
        ctypes.memset(block, 1, 1 << 21)
    for block in reversed(blocks):
        library.free(block)

round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
round()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(mode: str, **environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", SCRIPT, mode]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**kept, **environment}, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these limits")
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    told, pages = run("keep")
    assert told == "True"
    _, without = run("leave")
    assert int(pages) < 0.05 * int(without)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these limits")
def test_a_limit_of_the_users_own_is_kept() -> None:
    told, pages = run("keep", MALLOC_TRIM_THRESHOLD_="131072")
    assert told == "False"
    assert int(pages) > 10_000
