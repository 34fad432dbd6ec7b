"""Options that would leave nothing to measure are refused before anything is prepared."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from unimo_paddle.benchmarks.options import positive
from unimo_paddle.errors import ToolParser, UserError

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"
PAIRS = ["--pairs", "a.jsonl", "--split", "b.jsonl"]
PARTS = ["contrastive", "beam", "decode", "growth", "step", "reader", "ranks", "saves"]


@pytest.fixture(scope="module")
def parser() -> ToolParser:
    return runpy.run_path(str(TOOL))["_parser"]()


@pytest.mark.parametrize(
    ("kind", "text", "value"), [(int, "3", 3), (float, "0.5", 0.5), (float, "2", 2.0)]
)
def test_numbers_above_0_are_read(kind: type, text: str, value: float) -> None:
    found = positive(kind)(text)
    assert found == value and isinstance(found, kind)


@pytest.mark.parametrize("text", ["0", "-1"])
@pytest.mark.parametrize("part", PARTS)
def test_every_part_takes_at_least_one_round(parser: ToolParser, part: str, text: str) -> None:
    with pytest.raises(UserError, match=f"argument --rounds: {text} is no whole number above 0"):
        parser.parse_args([part, "--rounds", text])
    assert parser.parse_args([part, "--rounds", "4"]).rounds == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["two_tower", *PAIRS, "--minutes", "0"], "--minutes: 0 is no number above 0"),
        (["two_tower", *PAIRS, "--minutes", "nan"], "--minutes: nan is no number above 0"),
        (["two_tower", *PAIRS, "--minutes", "inf"], "--minutes: inf is no number above 0"),
        (["two_tower", *PAIRS, "--threads", "0"], "--threads: 0 is no whole number above 0"),
        (["two_tower", *PAIRS, "--batch_size", "0"], "--batch_size: 0 is no whole number"),
        (["decode", "--batches", "1", "0"], "--batches: 0 is no whole number above 0"),
        (["decode", "--regions", "-3"], "--regions: -3 is no whole number above 0"),
        (["contrastive", "--sizes", "0"], "--sizes: 0 is no whole number above 0"),
        (["beam", "--rounds", "ten"], "--rounds: ten is no whole number above 0"),
        (["beam", "--rounds", "1.5"], "--rounds: 1.5 is no whole number above 0"),
    ],
)
def test_what_counts_or_lasts_is_above_0(
    parser: ToolParser, arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=f"argument {message}.* --help explains the options"):
        parser.parse_args(arguments)
