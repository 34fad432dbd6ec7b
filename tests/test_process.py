"""What a program sets for its whole process: freed memory that stays, denormals that do not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from unimo_paddle import process

# Blocks as activations are: allocated, written, freed, and all that again. The last line printed is
# the number of pages that the system had to give in the second round.
MEMORY = """
import ctypes, resource, sys
from unimo_paddle.process import keep_freed_memory

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

# A product below the smallest normal number, three ways: here, in a thread, and by Paddle, whose
# own threads are made when they are first needed. Printed are 1 where it is above 0, else 0.
DENORMALS = """
import sys, threading
import numpy, paddle
from unimo_paddle.process import flush_denormals

def multiply():
    return numpy.full(64, 1e-20, numpy.float32) * numpy.float32(1e-20)

if sys.argv[1] == "flush":
    assert flush_denormals()
    assert numpy.finfo(numpy.float32).tiny > 0
products = [multiply()]
thread = threading.Thread(target=lambda: products.append(multiply()))
thread.start()
thread.join()
rows = paddle.full([512, 512], 1e-20)
products.append((rows * 1e-20).numpy())
print(*[int((product > 0).all()) for product in products])
print(*[int((product == 0).all()) for product in products])
"""


def run(script: str, *arguments: str, **environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**kept, **environment}, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these limits")
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    told, pages = run(MEMORY, "keep")
    assert told == "True"
    _, without = run(MEMORY, "leave")
    assert int(pages) < 0.05 * int(without)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these limits")
def test_a_limit_of_the_users_own_is_kept() -> None:
    told, pages = run(MEMORY, "keep", MALLOC_TRIM_THRESHOLD_="131072")
    assert told == "False"
    assert int(pages) > 10_000


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or not sys.platform.startswith("linux"),
    reason="flushed on x86-64 and 64-bit ARM under Linux",
)
def test_numbers_below_the_normal_ones_become_zero_in_every_thread() -> None:
    assert run(DENORMALS, "flush") == list("000111")
    assert run(DENORMALS, "leave")[:2] == list("11")


def test_a_processor_that_is_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.platform, "machine", lambda: "riscv64")
    assert not process.flush_denormals()


def test_a_process_that_only_ends_lets_a_stop_pass() -> None:
    program = (
        "import os, signal; from unimo_paddle.process import ignore_stops\n"
        "ignore_stops(); os.kill(os.getpid(), signal.SIGTERM); print('ended')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "ended\n"
