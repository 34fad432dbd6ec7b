"""What a run writes can be read back, and a resumed run writes no step twice."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from visualdl import LogReader

from tests.conftest import read_metrics
from unimo_paddle.logger import (
    RunLogger,
    configure_logging,
    format_duration,
    format_progress,
)


def records_of(folder: Path, kind: str, tag: str) -> list:
    path = folder / "visualdl" / "vdlrecords.log"
    return LogReader(file_path=str(path)).get_data(kind, tag)


def steps_of(folder: Path, kind: str, tag: str) -> list[int]:
    return [record.id for record in records_of(folder, kind, tag)]


def write_run(folder: Path, steps: range, *, start_step: int = 0) -> None:
    with RunLogger(folder, max_steps=100, start_step=start_step) as run:
        run.hyper_parameters({"train": {"max_steps": 100, "fast": True}}, ["train/loss"])
        for step in steps:
            run.scalars(step, {"train/loss": 1.0 / step})
            run.image(step, "pictures/a", np.full((4, 4, 3), 200, np.uint8))


def test_scalars_are_read_back(tmp_path: Path) -> None:
    write_run(tmp_path, range(1, 5))
    steps, values = read_metrics(tmp_path / "metrics.jsonl")["train/loss"]
    assert steps.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(values, [1, 1 / 2, 1 / 3, 1 / 4])
    shown = records_of(tmp_path, "scalar", "train/loss")
    np.testing.assert_allclose([record.value for record in shown], values)


def test_resumed_run_writes_no_step_twice(tmp_path: Path) -> None:
    write_run(tmp_path, range(1, 8))
    write_run(tmp_path, range(6, 10), start_step=5)
    expected = list(range(1, 10))
    assert read_metrics(tmp_path / "metrics.jsonl")["train/loss"][0].tolist() == expected
    assert steps_of(tmp_path, "scalar", "train/loss") == expected
    assert steps_of(tmp_path, "image", "pictures/a") == expected
    assert len(records_of(tmp_path, "hyper_parameters", "hparam")) == 1


def test_new_run_in_the_same_folder_begins_anew(tmp_path: Path) -> None:
    write_run(tmp_path, range(1, 8))
    write_run(tmp_path, range(1, 3))
    assert read_metrics(tmp_path / "metrics.jsonl")["train/loss"][0].tolist() == [1, 2]
    assert steps_of(tmp_path, "scalar", "train/loss") == [1, 2]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_files_cut_short_by_a_kill_are_continued(tmp_path: Path, cut: int) -> None:
    write_run(tmp_path, range(1, 8))
    for path in (tmp_path / "metrics.jsonl", tmp_path / "visualdl" / "vdlrecords.log"):
        path.write_bytes(path.read_bytes()[:-cut])
    write_run(tmp_path, range(6, 10), start_step=5)
    assert read_metrics(tmp_path / "metrics.jsonl")["train/loss"][0].tolist() == list(range(1, 10))
    assert steps_of(tmp_path, "scalar", "train/loss") == list(range(1, 10))


def test_what_is_no_number_is_null_in_strict_json(tmp_path: Path) -> None:
    with RunLogger(tmp_path, max_steps=9) as run:
        run.scalars(1, {"train/loss": float("nan")})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "train/loss": None}
    assert np.isnan(read_metrics(tmp_path / "metrics.jsonl")["train/loss"][1]).tolist() == [True]


def test_metrics_are_on_disk_at_once(tmp_path: Path) -> None:
    with RunLogger(tmp_path, max_steps=9) as run:
        run.scalars(1, {"train/loss": 2.0})
        assert json.loads((tmp_path / "metrics.jsonl").read_text())["train/loss"] == 2.0


def test_flush_brings_visualdl_to_disk(tmp_path: Path) -> None:
    with RunLogger(tmp_path, max_steps=9) as run:
        run.scalars(1, {"train/loss": 2.0})
        run.flush()
        assert steps_of(tmp_path, "scalar", "train/loss") == [1]


def test_histogram_leaves_out_what_is_no_number(tmp_path: Path) -> None:
    with RunLogger(tmp_path, max_steps=9) as run:
        run.histogram(3, "weights", np.array([[1.0, np.nan], [2.0, np.inf]], np.float32))
        run.histogram(3, "nothing", np.array([np.nan]))
        for values in ([1e20, 1e20], [1e20, np.nextafter(1e20, 2e20)], [0.0, 0.0], [5.0]):
            run.histogram(4, "exploded", np.array(values))
    assert len(records_of(tmp_path, "histogram", "exploded")) == 2
    record = records_of(tmp_path, "histogram", "weights")[0]
    assert sum(record.histogram.hist) == 2
    assert (min(record.histogram.bin_edges), max(record.histogram.bin_edges)) == (1.0, 2.0)


def test_logging_an_image_leaves_it_as_it_was(tmp_path: Path) -> None:
    image = np.ones((4, 4, 3), np.uint8)
    with RunLogger(tmp_path, max_steps=9) as run:
        run.image(1, "dark", image)
        run.text(1, "note", "seen")
    assert image.tolist() == np.ones((4, 4, 3), np.uint8).tolist()
    assert records_of(tmp_path, "text", "note")[0].text.encoded_text_string == "seen"


def test_silent_logger_writes_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunLogger(None, max_steps=9) as run:
        run.progress(1, {"loss": 1.0}, learning_rate=0.1, num_samples=4)
        run.histogram(1, "weights", np.ones(3))
        run.image(1, "picture", np.zeros((2, 2, 3), np.uint8))
        run.text(1, "note", "x")
        run.hyper_parameters({}, [])
        run.flush()
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_speed_and_time_left(tmp_path: Path, caplog) -> None:
    times = iter([0.0, 10.0, 15.0])
    with (
        caplog.at_level(logging.INFO, "unimo_paddle"),
        RunLogger(tmp_path, max_steps=300, clock=lambda: next(times)) as run,
    ):
        for step in (20, 30):
            run.progress(step, {"loss": 3.0, "cmcl": 0.5}, learning_rate=1e-4, num_samples=8)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == (
        "step  20/300 | loss 3.000     cmcl 0.5000   | lr 1.00e-04 | "
        "16.00 samples/s | 2 min 20 s left"
    )
    # 0.5 s a step in both intervals.
    assert second.endswith("| 16.00 samples/s | 2 min 15 s left")
    logged = read_metrics(tmp_path / "metrics.jsonl")
    assert logged["train/samples_per_second"][1].tolist() == [16.0, 16.0]
    assert set(logged) == {
        "train/loss",
        "train/cmcl",
        "train/learning_rate",
        "train/samples_per_second",
    }


def test_time_left_counts_from_the_step_resumed(caplog, tmp_path: Path) -> None:
    times = iter([0.0, 10.0])
    with (
        caplog.at_level(logging.INFO, "unimo_paddle"),
        RunLogger(tmp_path, max_steps=110, start_step=90, clock=lambda: next(times)) as run,
    ):
        run.progress(100, {"loss": 1.0}, learning_rate=0.0, num_samples=1)
    assert caplog.records[0].getMessage().endswith("| 1.000 samples/s | 10 s left")


def test_progress_lines_have_equal_columns() -> None:
    lines = [
        format_progress(
            step,
            1000,
            {"loss": loss, "lm": loss / 3},
            learning_rate=1e-4,
            samples_per_second=12.0,
            seconds_left=5.0,
        )
        for step, loss in ((1, 10.123456), (1000, 0.001234), (20, 123.456))
    ]
    assert len({line.index("| lr") for line in lines}) == 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (np.nan, "? s")],
)
def test_duration_has_its_two_largest_units(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected


@pytest.mark.usefixtures("restored_logging")
def test_console_shows_messages_once_with_time(capsys, tmp_path: Path) -> None:
    configure_logging()
    configure_logging(path=tmp_path / "logs" / "train.log")
    logging.getLogger("unimo_paddle.x").info("hello")
    logging.getLogger("other").info("noise")
    logging.getLogger("unimo_paddle.x").warning("careful")
    lines = [line for line in capsys.readouterr().err.splitlines() if "environment" not in line]
    assert [line[9:] for line in lines] == ["hello", "warning: careful"]
    assert "hello" in (tmp_path / "logs" / "train.log").read_text()


@pytest.mark.usefixtures("restored_logging")
def test_other_ranks_speak_from_warnings_on(capsys) -> None:
    configure_logging(rank=1)
    logging.getLogger("unimo_paddle.x").info("hello")
    assert capsys.readouterr().err == ""
