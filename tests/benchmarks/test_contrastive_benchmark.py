"""The benchmark measures in turns, fills its rows, and stops where a comparison is worthless."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from tqdm import tqdm

from unimo_paddle.benchmarks import contrastive, memory, peers, resident, speed
from unimo_paddle.benchmarks.cases import BenchmarkError, Case, Results
from unimo_paddle.benchmarks.contrastive import Options, make_options
from unimo_paddle.benchmarks.peers import OURS, PEAK, TUNED_PADDLE, Peer
from unimo_paddle.benchmarks.resident import log_log_slope
from unimo_paddle.errors import UserError

CASE = Case(8, 4)
SETS = Case(8, 4, positives=2, negatives=1)


class FakeWorker:
    """Answers at once and writes down when it was asked to measure."""

    def __init__(self, peer: Peer, log: list[str], *, loss: float = 1.0, absence=None) -> None:
        self.peer, self.log, self.loss, self.absence = peer, log, loss, absence
        self.versions = {peer.name: "1.0"}

    def prepare(self, case: Case) -> None:
        self.case = case

    def results(self) -> Results:
        return Results(self.loss, {"rows": np.ones(3)})

    def measure(self) -> tuple[float, float]:
        self.log.append(self.peer.name)
        return 0.5, 2e-6


def peer(name: str, **fields: object) -> Peer:
    products = 4 if name == OURS else 3
    defaults = {"factory": "", "about": "", "products": products, "takes_sets": True}
    return Peer(**{"name": name} | defaults | fields)


@pytest.fixture
def measure(monkeypatch):
    """Run `speed.measure` on fake workers: (peers, cases, {peer: what is special}) -> its result.

    The log of the measurements is an attribute of the function.
    """

    def run(names: list[Peer], cases: list[Case], special: dict[str, dict] | None = None):
        run.log.clear()

        @contextlib.contextmanager
        def running(peers, *, threads):
            yield [FakeWorker(p, run.log, **(special or {}).get(p.name, {})) for p in peers]

        monkeypatch.setattr(speed, "running", running)
        with tqdm(disable=True) as progress:
            return speed.measure(cases, names, threads=1, num_rounds=2, progress=progress)

    run.log = []
    return run


def test_rounds_interleave_all_peers_and_the_peak(measure):
    measure([peer(OURS), peer("a"), peer("b")], [CASE])
    assert measure.log == [OURS, PEAK, "a", "b"] * 2


def test_every_case_has_a_row_a_peer(measure):
    rows, versions, absent = measure([peer(OURS), peer("a")], [CASE, Case(4, 4)])
    assert [(row.case.count, row.peer) for row in rows] == [
        (8, OURS), (8, "a"), (4, OURS), (4, "a")
    ]  # fmt: skip
    assert versions["a"] == "1.0" and absent == {}
    # 3 products of 2 * 8 * 8 * 4 operations in half a second, of 2000 a second.
    assert rows[1].of_limit.median == pytest.approx(3 * 512 / 0.5 / 2000)
    assert rows[0].milliseconds == 500


def test_who_cannot_express_several_positives_is_left_out_of_that_case_only(measure):
    rows, _, _ = measure([peer(OURS), peer("a", takes_sets=False)], [CASE, SETS])
    assert [(row.case, row.peer) for row in rows] == [(CASE, OURS), (CASE, "a"), (SETS, OURS)]


def test_who_cannot_take_part_is_named_and_not_measured(measure):
    rows, _, absent = measure([peer(OURS), peer("a")], [CASE], {"a": {"absence": "too old"}})
    assert absent == {"a": "too old"}
    assert [row.peer for row in rows] == [OURS]


def test_a_different_answer_stops_before_any_round(measure):
    with pytest.raises(BenchmarkError, match="the loss of a differs from ours"):
        measure([peer(OURS), peer("a")], [CASE], {"a": {"loss": 1.001}})
    assert measure.log == []


def test_ratios_are_taken_round_by_round():
    # The second round was four times as slow for everyone: the ratio does not notice.
    seconds = {OURS: [1.0, 4.0, 1.0], "a": [2.0, 8.0, 2.0]}
    peers = [peer(OURS), peer("a")]
    ours, other = speed.summarise(1, CASE, peers, seconds, [1.0, 0.25, 1.0])
    assert other.of_ours == speed.Spread(2.0, 2.0, 2.0)
    assert ours.of_limit.low == pytest.approx(ours.of_limit.high)
    # Eight rows are few: ours keeps all scores and does three products, as the other.
    assert ours.of_limit.median == pytest.approx(2 * other.of_limit.median)


def test_score_matrices_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="give smaller --sizes"):
        speed.require_memory([Case(10_000_000, 4)], [peer("a", stores_scores=True)])
    speed.require_memory([Case(10_000_000, 4)], [peer("a")])


@pytest.mark.parametrize("power", [1, 2])
def test_the_slope_is_the_power_of_the_growth(power):
    counts = [1024, 4096, 32768]
    assert log_log_slope(counts, [7.0 * n**power for n in counts]) == pytest.approx(power)


def test_a_constant_share_lowers_the_slope():
    assert log_log_slope([10, 100], [10 + 90, 100 + 90]) < 0.5


def test_stored_scores_are_not_tried_where_the_estimate_exceeds_the_free_memory(
    stand_in, monkeypatch
):
    # The stand-in takes 40 MB at 128 rows, so 160 MB are expected at 256 if it stores scores.
    monkeypatch.setattr(memory, "available_bytes", lambda: 150_000_000)
    everyone = [stand_in("Large", name="a", stores_scores=True), stand_in("Large", name="b")]
    cases = [Case(256, 4), Case(128, 4)]
    with tqdm(disable=True) as progress:
        rows, _, left_out = memory.measure(cases, everyone, threads=1, progress=progress)
    assert [(row.peer, row.case.count) for row in rows] == [("a", 128), ("b", 128), ("b", 256)]
    assert "not measured from N = M = 256 on" in left_out["a"]


def test_memory_is_inputs_gradients_and_the_rest():
    row = memory.MemoryRow("a", Case(10, 3), threads=1, grown=1000, how="VmHWM")
    assert row.inputs == 4 * (10 * 3 + 10 * 3 + 1)
    assert row.total == row.minimum + row.extra == row.inputs + 1000


def test_without_a_peak_to_reset_the_peak_of_a_whole_life_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "_CLEAR", tmp_path / "absent" / "clear_refs")
    _, how = resident.peak_growth(lambda: None)
    assert how == "ru_maxrss"


def test_more_threads_than_processors_are_refused():
    with pytest.raises(UserError, match="--threads 4096 exceeds"):
        contrastive.run(Options(threads=(4096,)))


def test_a_quick_run_keeps_what_was_asked_for():
    options = make_options({"rounds": 7}, is_quick=True)
    assert options.rounds == 7
    assert max(options.sizes) < max(Options().sizes)


def test_the_default_cases_are_those_of_the_targets():
    cases = Options().speed_cases
    plain = {(case.count, case.size) for case in cases if not case.has_sets}
    assert plain == {(n, d) for n in (1024, 4096, 8192) for d in (256, 768)}
    assert [case for case in cases if case.has_sets] == [Case(4096, 256, 4, 8)]


def test_ours_and_plain_paddle_go_through_the_whole_benchmark(stand_in, monkeypatch):
    peak = replace(speed.PEAK_RATE, factory=stand_in("Form").factory)
    monkeypatch.setattr(speed, "PEAK_RATE", peak)
    two = [p for p in peers.all_peers(is_amd=True) if p.name in (OURS, TUNED_PADDLE)]
    monkeypatch.setattr(contrastive, "all_peers", lambda *, is_amd: two)
    options = Options(rounds=2, threads=(1,), sizes=(16,), features=(8,), memory_sizes=(16,))
    report = contrastive.run(options)
    assert [(row.case, row.peer) for row in report.speed_rows] == [
        (case, name) for case in options.speed_cases for name in (OURS, TUNED_PADDLE)
    ]
    assert all(row.milliseconds > 0 for row in report.speed_rows)
    assert [row.peer for row in report.memory_rows] == [OURS, TUNED_PADDLE]
    assert {"paddle", "python", "numpy"} <= report.versions.keys()
