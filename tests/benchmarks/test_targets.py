"""Targets are judged by the right rows, bounds and processors, and a report that misses fails."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from unimo_paddle.benchmarks import contrastive
from unimo_paddle.benchmarks.cases import Case
from unimo_paddle.benchmarks.contrastive import Options, Report
from unimo_paddle.benchmarks.contrastive_report import as_markdown_page, as_terminal_text
from unimo_paddle.benchmarks.hardware import Processor, processor
from unimo_paddle.benchmarks.memory import MemoryRow
from unimo_paddle.benchmarks.peers import (
    DEFAULT_PADDLE,
    INF_CL,
    OURS,
    TUNED_PADDLE,
    all_peers,
    split_by_presence,
)
from unimo_paddle.benchmarks.speed import SpeedRow, Spread
from unimo_paddle.benchmarks.targets import Target, memory_targets, speed_target

AMD = Processor("EPYC", is_amd=True, has_avx512=True)
TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"


def speed_row(peer: str, case: Case, *, of_ours: float = 1.0, of_limit: float = 0.5) -> SpeedRow:
    return SpeedRow(
        threads=1,
        case=case,
        peer=peer,
        milliseconds=10.0,
        of_ours=Spread(of_ours, of_ours - 0.1, of_ours + 0.1),
        of_limit=Spread(of_limit, of_limit - 0.1, of_limit + 0.1),
        seconds=[0.01],
        peak_gflops=[100.0],
    )


def memory_row(peer: str, count: int, extra: int) -> MemoryRow:
    case = Case(count, 256)
    gradients = 4 * (2 * count * 256 + 1)
    return MemoryRow(peer, case, threads=1, grown=gradients + extra, how="VmHWM")


def linear_memory(extra_at_8192: int = 1_000_000) -> list[MemoryRow]:
    """Ours at three sizes, and the stored form with 20 MB beyond inputs and gradients."""
    ours = [memory_row(OURS, n, extra_at_8192 * n // 8192) for n in (1024, 8192, 32768)]
    return [*ours, memory_row(TUNED_PADDLE, 8192, 20_000_000)]


def report(speed_rows: list[SpeedRow], memory_rows: list[MemoryRow]) -> Report:
    return Report(
        options=Options(threads=(1,)),
        processor=AMD,
        date="2026-01-02",
        load=0.0,
        versions={"paddle": "3.3.1"},
        peers=all_peers(is_amd=True),
        absent={"torch": "torch is not installed"},
        speed_rows=speed_rows,
        memory_rows=memory_rows,
    )


@pytest.mark.parametrize(
    ("value", "is_minimum", "is_met"),
    [
        (2.0, True, True),
        (1.99, True, False),
        (2.0, False, True),
        (2.01, False, False),
        (float("nan"), True, False),
        (float("nan"), False, False),
    ],
)
def test_a_target_is_met_at_its_bound_and_never_by_nan(value, is_minimum, is_met):
    assert Target("", value, 2.0, is_minimum).is_met == is_met


@pytest.mark.parametrize("size", [256, 768])
@pytest.mark.parametrize("count", [4096, 8192])
@pytest.mark.parametrize(("share", "is_met"), [(0.85, True), (0.849, False)])
def test_ours_must_reach_85_percent_of_the_limit(count, size, share, is_met):
    row = speed_row(OURS, Case(count, size), of_limit=share)
    assert speed_target(row, AMD).is_met == is_met


@pytest.mark.parametrize(
    ("peer", "size", "bound"),
    [(TUNED_PADDLE, 256, 1.5), (TUNED_PADDLE, 768, 1.1), (INF_CL, 256, 2.2), (INF_CL, 768, 2.2)],
)
def test_the_ratio_to_a_peer_has_its_bound(peer, size, bound):
    row = speed_row(peer, Case(4096, size), of_ours=bound)
    assert speed_target(row, AMD).is_met
    slower = replace(row, of_ours=Spread(bound - 0.01, bound, bound + 1))
    assert not speed_target(slower, AMD).is_met


@pytest.mark.parametrize("chip", [replace(AMD, is_amd=False), replace(AMD, has_avx512=False)])
def test_on_other_processors_only_the_limit_counts(chip):
    case = Case(4096, 256)
    assert speed_target(speed_row(TUNED_PADDLE, case), chip) is None
    assert speed_target(speed_row(INF_CL, case), chip) is None
    assert speed_target(speed_row(OURS, case), chip) is not None


@pytest.mark.parametrize(
    "row",
    [
        speed_row(OURS, Case(1024, 256)),
        speed_row(OURS, Case(4096, 128)),
        speed_row(OURS, Case(4096, 256, positives=4, negatives=8)),
        speed_row(DEFAULT_PADDLE, Case(4096, 256)),
    ],
    ids=["small", "other D", "several positives", "no bound"],
)
def test_other_rows_have_no_target(row):
    assert speed_target(row, AMD) is None


def test_linear_memory_meets_its_targets():
    targets = memory_targets(linear_memory())
    assert [target.is_met for target in targets] == [True, True, True]
    assert [target.value for target in targets] == pytest.approx([1.0, 1.0298, 20.0], rel=1e-3)


def test_too_much_extra_memory_misses_the_ratio_to_the_stored_form_only():
    targets = memory_targets(linear_memory(extra_at_8192=1_000_001))
    assert [target.is_met for target in targets] == [True, True, False]


def test_quadratic_memory_misses_the_slope_and_the_minimum():
    rows = [memory_row(OURS, n, n * n // 2) for n in (1024, 8192, 32768)]
    assert [target.is_met for target in memory_targets(rows)] == [False, False]


def test_sizes_of_a_quick_run_judge_nothing():
    rows = [memory_row(OURS, n, n * n) for n in (512, 1024)]
    assert memory_targets(rows) == []


def test_a_default_paddle_is_another_peer_on_amd_only():
    present, absent = split_by_presence(all_peers(is_amd=False), is_amd=False)
    assert DEFAULT_PADDLE not in [peer.name for peer in present]
    assert "the same as tuned Paddle" in absent[DEFAULT_PADDLE]


def test_a_peer_that_is_not_installed_is_named():
    everyone = [replace(peer, package="no_such_package") for peer in all_peers(is_amd=True)]
    present, absent = split_by_presence(everyone, is_amd=True)
    assert present == []
    assert absent[INF_CL] == "no_such_package is not installed"


def test_the_tables_show_targets_and_who_is_missing():
    case = Case(4096, 256)
    rows = [speed_row(OURS, case), speed_row(TUNED_PADDLE, case, of_ours=1.6)]
    text = as_terminal_text(report(rows, linear_memory()))
    lines = text.splitlines()
    assert any("ours" in line and ">= 0.85 MISSED" in line for line in lines)
    assert any("1.60 (1.50-1.70)" in line and ">= 1.5 met" in line for line in lines)
    assert "left out, torch: torch is not installed" in text
    assert "4 of 5 targets met" in text
    assert "MISSED: share of the limit at N = M = 4096, D = 256, threads 1 is 0.5" in lines[-1]


def test_every_line_of_a_markdown_table_has_the_same_number_of_cells():
    rows = [speed_row(peer, Case(4096, 256)) for peer in (OURS, TUNED_PADDLE)]
    page = as_markdown_page(report(rows, linear_memory()))
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert [len({line.count("|") for line in table}) for table in tables] == [1, 1]
    assert [len(table) for table in tables] == [2 + 2, 2 + 4]


@pytest.mark.parametrize(("share", "code"), [(0.86, 0), (0.84, 1)])
def test_the_tool_fails_when_a_target_is_missed(monkeypatch, tmp_path, capsys, share, code):
    rows = [speed_row(OURS, Case(4096, 256), of_limit=share)]
    monkeypatch.setattr(contrastive, "run", lambda options: report(rows, []))
    files = [tmp_path / "figures.json", tmp_path / "page.md"]
    arguments = ["contrastive", "--output", str(files[0]), "--markdown", str(files[1])]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(TOOL))["main"]()
    assert exit_.value.code == code
    assert json.loads(files[0].read_text())["targets"][0]["is_met"] == (code == 0)
    assert files[1].read_text().startswith("# ")
    assert f"{1 - code} of 1 targets met" in capsys.readouterr().out


def test_the_processor_is_read_from_the_system(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "vendor_id\t: AuthenticAMD\nmodel name\t: EPYC\nflags\t\t: fpu avx512f\n\n"
        "vendor_id\t: GenuineIntel\n"
    )
    assert processor(cpuinfo) == AMD
    cpuinfo.write_text("vendor_id\t: GenuineIntel\nmodel name\t: Xeon\nflags\t\t: fpu avx2\n")
    assert processor(cpuinfo) == Processor("Xeon", is_amd=False, has_avx512=False)
