"""Promise 11: thousands of random calls of every operator compute what is slow, or are refused.

The calls run in a process of their own, for a crash must be seen as one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unimo_paddle.ops import _core

PROGRAM = Path(__file__).with_name("operator_calls.py")
OPERATORS = ("contrastive", "one_way", "beam_search", "decode_attention", "few_rows", "pick_rows")
OPERATORS += ("add_norm", "bias_gelu", "split_heads", "masked_softmax")
NUM_SHORT, NUM_ALL = 250, 5_000  # calls of each operator


def check(names: str, first_seed: int, num_calls: int, instruction_set: str = "") -> None:
    command = [sys.executable, str(PROGRAM), names, str(first_seed), str(num_calls)]
    environment = {**os.environ, "UNIMO_INSTRUCTION_SET": instruction_set}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-3000:]}{done.stderr[-1500:]}"


def test_random_calls_compute_or_are_refused() -> None:
    check(",".join(OPERATORS), 0, NUM_SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_thousands_of_calls_compute_or_are_refused(name: str) -> None:
    check(name, NUM_SHORT, NUM_ALL)


# The bfloat16 form is chosen by name only, and is less exact than the reference allows here.
FORMS = [form for form in _core.instruction_sets() if form != "avx512_bf16"]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["contrastive", "one_way"])
def test_every_instruction_set_computes_or_refuses(name: str, form: str) -> None:
    check(name, 10**6, NUM_ALL // 2, form)
