"""Two stores of the same images: matched regions, their features and classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.regions.checking import import_from
from tests.data.regions.samples import Detected, detect, retrieval_line, uniter_arrays, write_lines
from unimo_paddle.data.regions import RegionStore
from unimo_paddle.data.regions.comparison import (
    compare_image,
    intersection_over_union,
    shared_images,
)

FOUND = [detect(f"COCO_val2014_{number:012}", number, num_regions=6) for number in range(1, 5)]


def make(folder: Path, found: list[Detected]) -> RegionStore:
    folder.mkdir()
    lines = [retrieval_line(item) for item in found]
    return import_from("original", write_lines(folder / "features.tsv", lines))


@pytest.fixture
def known(tmp_path: Path) -> RegionStore:
    return make(tmp_path / "known", FOUND)


def test_a_store_is_like_itself(known: RegionStore) -> None:
    found = compare_image(known, known, (2, 2), min_overlap=0.5)
    np.testing.assert_array_equal(found.overlaps, np.ones(6, np.float32))
    np.testing.assert_allclose(found.cosines, 1, rtol=1e-5)
    assert found.are_same.all() and found.matched_share == 1
    assert found.agreement == pytest.approx(1, rel=1e-5)


def test_regions_are_matched_whatever_their_order(known: RegionStore, tmp_path: Path) -> None:
    """One region fewer, another feature, another class; and everything turned round."""
    item = FOUND[1]
    features, probabilities = item.features[::-1].copy(), item.probabilities[::-1].copy()
    features[0] *= -2
    probabilities[1] = np.roll(probabilities[1], 1)
    changed = replace(
        item,
        boxes=item.boxes[::-1][:5].copy(),
        features=features[:5],
        probabilities=probabilities[:5],
    )
    other = make(tmp_path / "other", [changed])
    found = compare_image(known, other, (1, 0), min_overlap=0.9)
    assert found.counts == (6, 5) and found.matched_share == pytest.approx(10 / 11)
    # In the order of the first store, whose last region is the first of the other.
    np.testing.assert_allclose(found.cosines, [1, 1, 1, 1, -1], atol=1e-4)
    np.testing.assert_allclose(found.norm_ratios, [1, 1, 1, 1, 2], rtol=1e-3)
    np.testing.assert_array_equal(found.are_same, [True, True, True, False, True])


def test_boxes_that_hardly_overlap_are_no_match(known: RegionStore, tmp_path: Path) -> None:
    item = FOUND[0]
    moved = replace(item, boxes=item.boxes + np.float32([300, 0, 300, 0]))
    other = make(tmp_path / "other", [moved])
    found = compare_image(known, other, (0, 0), min_overlap=0.99)
    assert len(found.overlaps) == 0 and found.agreement == 0


def test_images_are_paired_whatever_they_are_called(known: RegionStore, tmp_path: Path) -> None:
    """By number and file name, in either direction; boxes in pixels beside shares."""
    (tmp_path / "npz").mkdir()
    for number in (4, 1, 9):
        found = detect("x", number, num_regions=6)
        np.savez(tmp_path / f"npz/coco_val2014_{number:012}.npz", **uniter_arrays(found))
    other = import_from("npz", tmp_path / "npz", ids="number")
    assert shared_images(known, other) == [(0, 0), (3, 1)]
    assert shared_images(other, known) == [(0, 0), (1, 3)]
    found = compare_image(known, other, (3, 1), min_overlap=0.9)
    assert found.matched_share == 1 and found.cosines.min() > 0.999


def test_overlap_is_worked_out_by_hand() -> None:
    these = np.float32([[0, 0, 2, 2], [1, 1, 1, 1]])
    those = np.float32([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]])
    expected = [[1 / 7, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(intersection_over_union(these, those), expected, rtol=1e-6)
