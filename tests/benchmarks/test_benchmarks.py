"""The comparison of two functions in one process, and the beam-search step measured by it."""

from __future__ import annotations

from unimo_paddle.benchmarks import beam, decoding, interleave, machine
from unimo_paddle.models import ModelConfig


def test_the_beam_benchmark_fills_one_row_a_size(monkeypatch):
    monkeypatch.setattr(beam, "SIZES", ((2, 3, 64),))
    (row,) = beam.run(num_rounds=2)
    assert tuple(row.values())[:3] == (2, 3, 64)
    assert row["ours_ms"] > 0 and row["ratio_10"] <= row["ratio"] <= row["ratio_90"]


def test_the_decode_benchmark_fills_one_row_a_shape():
    model = ModelConfig(
        vocab_size=60, hidden_size=16, num_layers=1, num_heads=2, region_feature_size=8
    )
    rows = decoding.run(1, model=model, batches=(1, 2), num_regions=(3,))
    assert [(row["B"], row["regions"]) for row in rows] == [(1, 3), (2, 3)]
    assert all(row["ours_ms"] > 0 and row["ms/token"] > 0 for row in rows)


def test_rounds_alternate_between_the_two():
    calls = []
    interleave(lambda: calls.append("a"), lambda: calls.append("b"), num_rounds=2, warmup=1)
    assert "".join(calls) == "ababab"


def test_the_machine_is_named():
    assert {"processor", "paddle"} <= machine().keys()
