"""Lengths by which an update is counted: of records that are there, or of what settings allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle import settings
from unimo_paddle.config import RunConfig
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.original_order import by_epoch, reorder
from unimo_paddle.data.scenes import sample_scene
from unimo_paddle.data.scenes.grammar import labelled_objects
from unimo_paddle.dry_run.cost import NUM_SAMPLES, Lengths, assumed_lengths, measured_lengths
from unimo_paddle.errors import BadSample, UserError

ROOT = Path(__file__).resolve().parents[2]


def encode(record: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A sample of so many words; a negative record has none."""
    if record < 0:
        raise BadSample(f"{-record}.jpg", "JPEG is truncated")
    return {"text_mask": np.ones(record, np.float32)}


def stream(records) -> Stream:
    return Stream("text", records, encode, (), 4)


@pytest.mark.parametrize(("longest", "expected"), [(False, 4.0), (True, 7.0)])
def test_lengths_are_those_of_the_records(longest: bool, expected: float) -> None:
    lengths = measured_lengths(stream([1, 7, 4]), longest=longest)
    assert lengths == Lengths(expected, source="of 3 records")


def test_of_all_epochs_only_the_first_is_looked_at() -> None:
    asked = []

    def order(epoch: int) -> np.ndarray:
        asked.append(epoch)
        return by_epoch(300, epoch)

    lengths = measured_lengths(stream(reorder(range(300), order)))
    assert asked == [0]
    assert lengths.source == f"of {NUM_SAMPLES} records"


def test_records_that_cannot_be_used_are_left_out_and_told() -> None:
    lengths = measured_lengths(stream([-8, 3, -9, 5]))
    assert lengths.text == 4.0
    assert lengths.source == "of 2 records; 2 skipped, first 8.jpg: JPEG is truncated"


def test_no_record_that_can_be_used_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match=r"none of 2 records .* first 8.jpg: JPEG is .*; mend"):
        measured_lengths(stream([-8, -9]))


@pytest.mark.parametrize(("max_regions", "expected"), [(100, 5), (3, 3)])
def test_rows_assumed_of_a_scene_are_the_most_that_are_labelled(
    max_regions: int, expected: int
) -> None:
    task = settings.load(RunConfig, ROOT / "configs" / "finetune" / "scenes_vqa.yaml").task
    image = replace(task.data.image, kind="objects", max_regions=max_regions)
    lengths = assumed_lengths(replace(task, data=replace(task.data, image=image)))
    assert lengths.regions == 1 + expected


def test_no_scene_has_more_labelled_objects_than_are_assumed() -> None:
    rng = np.random.default_rng(0)
    assert max(len(labelled_objects(sample_scene(rng))) for _ in range(40)) == 5
