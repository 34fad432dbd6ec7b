"""The benchmarks measure something, and refuse to compare two different answers."""

from __future__ import annotations

import pytest

from unimo_paddle.benchmarks import beam, contrastive, interleave, machine


@pytest.mark.parametrize(
    ("module", "size"), [(contrastive, (24, 8)), (beam, (2, 3, 64))], ids=["contrastive", "beam"]
)
def test_a_benchmark_fills_one_row_a_size(monkeypatch, module, size):
    monkeypatch.setattr(module, "SIZES", (size,))
    (row,) = module.run(num_rounds=2)
    assert tuple(row.values())[: len(size)] == size
    assert row["ours_ms"] > 0 and row["ratio_10"] <= row["ratio"] <= row["ratio_90"]


def test_a_benchmark_stops_when_the_answers_differ(monkeypatch):
    monkeypatch.setattr(contrastive, "SIZES", ((24, 8),))
    wrong = contrastive.contrastive_logsumexp
    monkeypatch.setattr(
        contrastive,
        "contrastive_logsumexp",
        lambda rows, *rest: wrong(rows * 2, *rest),
    )
    with pytest.raises(AssertionError):
        contrastive.run(num_rounds=1)


def test_rounds_alternate_between_the_two():
    calls = []
    interleave(lambda: calls.append("a"), lambda: calls.append("b"), num_rounds=2, warmup=1)
    assert "".join(calls) == "ababab"


def test_the_machine_is_named():
    assert {"processor", "paddle"} <= machine().keys()
