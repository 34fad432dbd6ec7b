"""The benchmark of the reader: the same data either way, and both rates judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from unimo_paddle.benchmarks import peer_report, reader
from unimo_paddle.benchmarks.cases import BenchmarkError
from unimo_paddle.benchmarks.hardware import Processor
from unimo_paddle.benchmarks.peer_report import Origin
from unimo_paddle.benchmarks.reader import (
    LINES,
    MEMORY,
    OPENCV,
    PILLOW,
    READING,
    UPDATING,
    ImageCase,
    ReaderReport,
    ReaderRow,
    RegionCase,
)
from unimo_paddle.benchmarks.reader_forms import OpenCv, Ours, Pillow, make_files
from unimo_paddle.benchmarks.region_forms import Lines, Memory, Store, write_regions
from unimo_paddle.benchmarks.rounds import Spread

PROCESSOR = Processor("a processor", is_amd=True, has_avx512=True)
IMAGES = ImageCase(count=2, width=80, height=60)
REGIONS = RegionCase(count=12, num_regions=5, feature_size=16)


@pytest.mark.parametrize(
    ("of_updates", "of_ours", "met"), [(3.0, 1.0, [True, True]), (2.9, 0.9, [False, False])]
)
def test_both_rates_are_judged(of_updates: float, of_ours: float, met: list[bool]) -> None:
    def row(what: str, way: str, ratio: float | None) -> ReaderRow:
        spread = None if ratio is None else Spread(ratio, ratio, ratio)
        return ReaderRow(what, way, 5.0, spread, [0.005])

    report = ReaderReport(
        Origin("Reading", "x", 2, 3, PROCESSOR, 0.0, "2026-01-01", {}),
        [row("a.yaml", READING, of_updates), row("a.yaml", UPDATING, None)],
        [row("a size", "ours", None), row("a size", OPENCV, 0.5), row("a size", PILLOW, of_ours)],
    )
    assert [target.is_met for target in report.targets] == met
    assert f"{sum(met)} of 2 targets met" in peer_report.as_terminal_text(report)


def test_regions_are_read_alike_by_all(tmp_path: Path) -> None:
    write_regions(tmp_path, REGIONS)
    forms = [form(replace(REGIONS, folder=str(tmp_path))) for form in (Store, Memory, Lines)]
    assert len({form.results() for form in forms}) == 1
    for form in forms:
        form.run()
        np.testing.assert_array_equal(form.batch[3], forms[0].batch[3])


@pytest.mark.parametrize("form", [Ours, OpenCv, Pillow])
def test_an_image_is_read_alike_by_all(form) -> None:
    (data, *_) = make_files(IMAGES)
    reading = form(IMAGES)
    reading._config = reading._config.__class__(image_size=224, crop_scale=1.0, crop_ratio=1.0)
    found = reading.read(data).astype(float)
    whole = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)
    expected = cv2.resize(whole, (224, 224)).astype(float)
    errors = [np.abs(found[:, ::step] - expected).mean() for step in (1, -1)]  # ours may mirror it
    assert found.shape == (224, 224, 3) and min(errors) < 4.0


def test_other_data_are_refused() -> None:
    reader.check_results(READING, 3.0, 3.0)
    with pytest.raises(BenchmarkError, match="'batches, one thread' has read 4, not 3"):
        reader.check_results(READING, 4.0, 3.0)


@pytest.mark.slow
def test_a_run_measures_reading_and_updates(write_run_file, tmp_path) -> None:
    config = write_run_file(tmp_path / "run.yaml", {})
    report = reader.run(2, command="x", configs=[str(config)], images=IMAGES, regions=REGIONS)
    assert [row.way for row in report.batches] == [READING, UPDATING]
    assert [row.way for row in report.images] == ["ours", OPENCV, PILLOW]
    assert [row.way for row in report.regions] == ["ours", MEMORY, LINES]
    rows = report.batches + report.images + report.regions
    assert all(len(row.seconds) == 2 for row in rows)
    reading, updating = report.batches
    ratio = np.divide(updating.seconds, reading.seconds)
    assert reading.ratio.median == pytest.approx(np.median(ratio))
    page = peer_report.as_markdown_page(report)
    assert "80 x 60 to 224 x 224" in page and READING in page and "5 x 16 in half" in page
    assert len(json.loads(json.dumps(report.as_json()))["targets"]) == 4
