"""Peers that take turns, their report, and the two benchmarks of writing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from unimo_paddle.benchmarks import beam, decoding, growth, peer_report, step
from unimo_paddle.benchmarks.beam import BeamCase
from unimo_paddle.benchmarks.cases import BenchmarkError
from unimo_paddle.benchmarks.decoding import DecodeCase, Sizes
from unimo_paddle.benchmarks.hardware import Processor
from unimo_paddle.benchmarks.peer_report import Origin, PeerReport, PeerRow
from unimo_paddle.benchmarks.peers import OURS, READ
from unimo_paddle.benchmarks.rounds import Spread

ORIGIN = Origin(
    title="Writing captions",
    command="python tools/benchmark.py decode",
    threads=2,
    num_rounds=1,
    processor=Processor("a processor", is_amd=True, has_avx512=True),
    load=0.0,
    date="2026-01-01",
    versions={"paddle": "3.3.1"},
    read_rate=2e10,
)
TINY = Sizes(vocab_size=60, hidden_size=16, num_layers=2, num_heads=2, feature_size=8)


def make_row(peer: str, *, images: int = 1, of_ours: float = 1.0, of_read: float | None = None):
    read = None if of_read is None else Spread(of_read, of_read, of_read)
    case = {"images": images, "regions": 3}
    return PeerRow(case, peer, 5.0, Spread(of_ours, of_ours, of_ours), read, [0.005])


def make_report(rows: list[PeerRow]) -> PeerReport:
    return PeerReport(
        origin=ORIGIN,
        peers=decoding.peers()[:2],
        absent={"CTranslate2": "ctranslate2 is not installed"},
        rows=rows,
        targets=decoding.targets(rows),
    )


def test_the_beam_benchmark_measures_every_peer_that_is_here() -> None:
    report = beam.run(2, command="x", sizes=((2, 3, 640),))
    peers = [peer.name for peer in report.peers]
    assert peers[0] == OURS and READ not in peers
    assert [row.peer for row in report.rows] == peers
    assert all(row.milliseconds > 0 and len(row.seconds) == 2 for row in report.rows)
    assert report.rows[0].of_limit.median > 0 and report.origin.read_rate > 1e9
    assert json.loads(json.dumps(report.as_json()))["rows"][0]["case"] == {"B": 2, "K": 3, "V": 640}


def test_the_decode_benchmark_measures_every_peer_that_is_here() -> None:
    report = decoding.run(1, command="x", batches=(2,), num_regions=(3,), sizes=TINY)
    names = [row.peer for row in report.rows]
    assert names[:2] == [OURS, decoding.STEPPED]
    assert all(row.milliseconds > 0 for row in report.rows)


def test_the_step_benchmark_measures_every_peer_that_is_here() -> None:
    sizes = step.StepSizes(1, 16, 2, vocab_size=60, feature_size=8)
    report = step.run(1, command="x", sizes=(sizes,))
    names = [row.peer for row in report.rows]
    assert names[0] == OURS and set(names) <= {OURS, step.EAGER, step.COMPILED}
    assert 0 < report.rows[0].of_limit.median < 1
    tables = report.tables()
    assert tables.pop("Time").headings[-1] == "of peak"
    (title,) = tables
    assert title.startswith("Where the time of 1 x 16 goes: ") and "% to matrix products" in title
    rows = {name: (int(calls), float(share[:-1])) for name, calls, _, share in tables[title].rows}
    assert rows["matmul"][0] > 20 and rows["matmul_grad"][0] > 20
    assert sum(share for _, share in rows.values()) == pytest.approx(100, abs=1)


def test_the_products_of_an_update_are_those_of_its_layers_and_heads() -> None:
    # Of base size, with 16 pairs: 3,232 positions of 85 million weights, six operations each.
    layers = 16 * 2 * (37 + 64) * 85e6 * 6
    words = 16 * 10 * 768 * 50265 * 6
    assert step.StepCase(step.BASE, "").needs(OURS) == pytest.approx(
        1e-9 * (layers + words), rel=0.03
    )


def test_other_losses_stop_the_step_benchmark() -> None:
    losses = np.array([[9.0, 2.7], [8.9, 2.6]])
    step.check_results("torch", losses * 1.0001, losses)
    with pytest.raises(BenchmarkError, match="times of different work mean nothing"):
        step.check_results("torch", losses + np.array([[0, 0], [0.1, 0]]), losses)


def test_the_weights_of_a_token_are_those_of_the_layers_and_the_head() -> None:
    # Of base size: 85.05 million in the layers, 0.59 in the head, 38.6 of words.
    assert Sizes().weights_of_a_token == pytest.approx(124.3e6, rel=1e-3)


def test_other_answers_stop_a_benchmark() -> None:
    tokens = np.zeros((2, 20), np.int64)
    decoding.check_results(decoding.CTRANSLATE2, tokens + 1, tokens)  # its weights are others
    with pytest.raises(BenchmarkError, match="Hugging Face writes other tokens"):
        decoding.check_results(decoding.HUGGING_FACE, tokens + 1, tokens)
    with pytest.raises(BenchmarkError, match="CTranslate2 writes other tokens"):
        decoding.check_results(decoding.CTRANSLATE2, tokens[:, :19], tokens)
    ours = beam.Results(*(np.zeros((1, 2)) for _ in range(4)))
    beam.check_results("torch", ours, ours)
    with pytest.raises(BenchmarkError, match="torch chooses other tokens"):
        beam.check_results("torch", ours._replace(tokens=ours.tokens + 1), ours)
    with pytest.raises(BenchmarkError, match=r"they differ by nan"):
        beam.check_results("torch", ours._replace(scores=ours.scores + np.nan), ours)


def test_targets_hold_peers_to_ratios_and_ours_to_the_read_rate() -> None:
    rows = [
        make_row(OURS, of_read=0.71),
        make_row(decoding.STEPPED, of_ours=2.5),
        make_row(decoding.CTRANSLATE2, of_ours=0.95),
        make_row(OURS, images=8, of_read=0.1),
    ]
    found = {target.text: target.is_met for target in decoding.targets(rows)}
    assert found == {
        "share of the rate at which memory is read (images 1, regions 3)": True,
        "time of Paddle, stepped over ours (images 1, regions 3)": False,
        "time of CTranslate2 over ours (images 1, regions 3)": True,
    }


def test_a_report_tells_what_was_missed_and_who_was_left_out() -> None:
    rows = [make_row(OURS, of_read=0.5), make_row(decoding.STEPPED, of_ours=4.0)]
    report = make_report(rows)
    assert [target.is_met for target in report.targets] == [False, True]
    for text in (peer_report.as_terminal_text(report), peer_report.as_markdown_page(report)):
        assert "1 of 2 targets met" in text
        assert "MISSED: share of the rate at which memory is read" in text
        assert "left out, CTranslate2: ctranslate2 is not installed" in text
        assert "4.00 (4.00-4.00)" in text and "50% (50%-50%)" in text


@pytest.mark.slow
def test_growth_is_measured_by_length_and_by_beams_and_source() -> None:
    report = growth.run(
        1, command="x", lengths=(4, 8, 12), beams=(1, 3), sources=(3, 9), sizes=TINY
    )
    assert [(row.first, row.last) for row in report.lengths] == [(4, 8), (8, 12)]
    assert report.grown.keys() == {(1, 3), (1, 9), (3, 3), (3, 9)}
    assert len(report.targets) == 2 and json.dumps(report.as_json())
    assert "4 to 8" in peer_report.as_markdown_page(report)


def test_growth_is_held_to_attention_and_to_one_beam() -> None:
    rows = [growth.LengthRow(20, 40, 100.0, None), growth.LengthRow(40, 80, 106.0, 0.2)]
    grown = {(1, 64): 100, (1, 512): 300, (16, 64): 200, (16, 512): 500}
    report = growth.GrowthReport(ORIGIN, rows, attention=0.1, grown=grown)
    time, memory = report.targets
    # Six milliseconds for thirty words more; three hundred bytes over two hundred.
    assert time.value == pytest.approx(2.0) and time.is_met
    assert memory.value == pytest.approx(1.5) and not memory.is_met


def test_cases_are_the_same_in_every_process() -> None:
    case = BeamCase(3, 2, 50)
    first, second = case.make_inputs(), case.make_inputs()
    assert all(map(np.array_equal, first, second))
    assert first.finished.sum() == 1 and first.logits.shape == (3, 2, 50)
    images = DecodeCase(2, 4, "folder", TINY)
    assert np.array_equal(images.make_inputs().features, replace(images).make_inputs().features)
