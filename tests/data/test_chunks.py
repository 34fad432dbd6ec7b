"""Results of long work: chunks that are there are not made again, other work begins anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.data.chunks import Chunks, Workshop

KEY = {"files": "a"}
NUM_ROWS, SIZE = 10, 4


class Counting:
    """Makes rows that tell their place, and notes which were asked for."""

    def __init__(self, *, dies_at: int | None = None) -> None:
        self.asked: list[int] = []
        self.dies_at = dies_at

    def __call__(self, start: int, stop: int) -> np.ndarray:
        if start == self.dies_at:
            raise KeyboardInterrupt
        self.asked.append(start)
        return np.arange(start, stop)


def compute(folder: Path, make: Counting, key: dict = KEY) -> Chunks:
    return Workshop(folder, key).compute("rows", NUM_ROWS, make, size=SIZE, unit="row")


def test_chunks_hold_all_rows_in_order(tmp_path: Path) -> None:
    assert compute(tmp_path / "work", Counting()).read_all().tolist() == list(range(NUM_ROWS))


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (3, 5), (4, 10), (9, 10), (0, 10)])
def test_any_range_of_rows_can_be_read(tmp_path: Path, start: int, stop: int) -> None:
    chunks = compute(tmp_path / "work", Counting())
    assert chunks.read(start, stop).tolist() == list(range(start, stop))


def test_work_that_ended_early_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "work", Counting(dies_at=8))
    again = Counting()
    assert compute(tmp_path / "work", again).read_all().tolist() == list(range(NUM_ROWS))
    assert again.asked == [8]


def test_other_work_begins_anew(tmp_path: Path) -> None:
    compute(tmp_path / "work", Counting())
    again = Counting()
    compute(tmp_path / "work", again, {"files": "b"})
    assert again.asked == [0, 4, 8]


def test_nothing_to_do_makes_nothing(tmp_path: Path) -> None:
    chunks = Workshop(tmp_path / "work", KEY).compute("rows", 0, Counting(), size=4, unit="row")
    assert list(chunks) == []
