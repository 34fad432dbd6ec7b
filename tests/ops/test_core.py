"""The module on NumPy arrays at its limits: of nothing, and where memory ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from unimo_paddle.ops import _core

# Calls whose workspaces do not fit into the address space that is left, in MB: features so wide
# that a thread packs 8 MB and more; so many tokens that it notes 4 MB of largest logits.
SCARCE = """
import resource
import sys
import numpy as np
from unimo_paddle.ops import _core

one = np.ones(1, np.float32)
if sys.argv[1] == "contrastive":
    rows, ids = np.zeros((1, 2_000_000), np.float32), np.zeros(1, np.int64)
    call = lambda: _core.contrastive_forward(rows, rows, one, ids, ids, ids, ids, num_threads=1)
else:
    logits = np.zeros((1, 1, 2**28), np.float32)  # pages that nothing touches take no memory
    inputs = [logits, one[None], np.zeros((1, 1), bool), np.zeros(1, np.int64)]
    inputs.append(np.zeros((1, 1, 0), np.int64))
    call = lambda: _core.beam_search_step(
        *inputs, end_token=1, min_length=0, length_penalty=0.0, two_k=False, num_threads=1
    )
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 2**20, hard))
try:
    call()
except MemoryError:
    print("refused")
"""


@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (5, 0), (0, 3000)], ids=str)
def test_of_nothing_no_pair_is_kept(sizes: tuple[int, int]) -> None:
    assert _core.kept_pairs(*sizes) == 0


def test_small_matrices_are_kept_whole_and_large_ones_in_part() -> None:
    assert _core.kept_pairs(230, 410) == 230 * 410
    assert 0 < _core.kept_pairs(8192, 8192) < 8192**2


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="num_rows is 3, num_columns -1000; neither may be neg"):
        _core.kept_pairs(3, -1000)


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited as Linux does")
@pytest.mark.parametrize(("call", "megabytes"), [("contrastive", 64), ("beam_search", 2)])
def test_too_little_memory_is_an_error_and_not_the_end(call: str, megabytes: int) -> None:
    command = [sys.executable, "-c", SCARCE, call, str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
