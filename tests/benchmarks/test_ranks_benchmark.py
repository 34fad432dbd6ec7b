"""The benchmark of two ranks: it measures the same work, and judges both prices."""

from __future__ import annotations

import json

import numpy as np
import pytest

from unimo_paddle.benchmarks import peer_report, ranks
from unimo_paddle.benchmarks.cases import BenchmarkError
from unimo_paddle.benchmarks.hardware import Processor
from unimo_paddle.benchmarks.peer_report import Origin
from unimo_paddle.benchmarks.ranks import APART, RANKS, WHOLE, RanksCase, RanksReport, RanksRow
from unimo_paddle.benchmarks.rounds import Spread

PROCESSOR = Processor("a processor", is_amd=True, has_avx512=True)


def make_report(ratios: dict[str, float]) -> RanksReport:
    origin = Origin("Ranks", "x", 2, 3, PROCESSOR, 0.0, "2026-01-01", {})
    rows = [
        RanksRow({"model": "m", "batch": 56}, way, 5.0, Spread(ratio, ratio, ratio), [0.005])
        for way, ratio in {RANKS: 1.0, **ratios}.items()
    ]
    return RanksReport(origin, rows)


@pytest.mark.parametrize(
    ("apart", "whole", "met"),
    [(1.15, 1.15, [True, True]), (1.16, 0.9, [True, False]), (1.0, 1.3, [False, True])],
)
def test_both_prices_of_ranks_are_judged(apart: float, whole: float, met: list[bool]) -> None:
    report = make_report({WHOLE: whole, APART: apart})
    assert [target.is_met for target in report.targets] == met
    assert f"{sum(met)} of 2 targets met" in peer_report.as_terminal_text(report)


@pytest.mark.slow
def test_a_run_measures_all_three_ways(write_run_file, tmp_path) -> None:
    without = {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0}  # it differs by rank
    config = write_run_file(tmp_path / "run.yaml", without)
    case = RanksCase("tiny", ("--config", str(config)), batch=14, num_updates=2)
    report = ranks.run(2, command="x", measured=[case])
    assert [row.way for row in report.rows] == [RANKS, WHOLE, APART]
    assert all(len(row.seconds) == 2 and row.milliseconds > 0 for row in report.rows)
    of_apart = np.divide(report.rows[0].seconds, report.rows[2].seconds)
    assert report.rows[2].of_it.median == pytest.approx(np.median(of_apart))
    page = peer_report.as_markdown_page(report)
    assert "| tiny | 14 | 2 ranks |" in page and "GB/s" not in page
    assert len(json.loads(json.dumps(report.as_json()))["targets"]) == 2


class Answering:
    """A worker that found a loss."""

    def __init__(self, loss: float) -> None:
        self._loss = loss

    def ask(self, command: str) -> None:
        assert command == "results"

    def answer(self) -> float:
        return self._loss


def test_ranks_that_do_other_work_are_refused() -> None:
    groups = {WHOLE: [Answering(2.0)], RANKS: [Answering(2.0), Answering(2.00001)]}
    ranks._check(groups)
    groups[RANKS][1] = Answering(2.1)
    with pytest.raises(BenchmarkError, match=r"contrastive loss of 2 ranks is 2\.1"):
        ranks._check(groups)


def test_a_share_is_told_to_the_trainer() -> None:
    case = RanksCase("m", ("--config", "x.yaml"), 56, 2, folder="f", rank=1, num_ranks=2)
    line = case.command_line()
    assert line[line.index("--train.batch_size") + 1] == "28"
