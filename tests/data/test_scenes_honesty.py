"""The built-in data set as a yardstick: its ceiling, its baseline, its looks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from unimo_paddle.data.scenes import (
    SceneConfig,
    contact_sheet,
    ensure_scenes,
    histogram_recall,
    read_manifest,
)

SMALL = SceneConfig(num_train=300, num_novel=40, num_texts=60, num_images_only=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_scenes(tmp_path_factory.mktemp("data") / "scenes", SMALL)


def test_nearly_every_test_caption_identifies_one_of_200_scenes(folder: Path) -> None:
    assert read_manifest(folder)["ceilings"]["test"] >= 0.9


def test_colour_histograms_alone_retrieve_little(folder: Path) -> None:
    recall = histogram_recall(folder)

    assert 0.01 < recall < 0.3


def test_the_histogram_baseline_can_learn_where_colours_do_tell(tmp_path: Path) -> None:
    """Colours tell eight scenes apart; a baseline that cannot do this would prove little."""
    config = SceneConfig(num_train=300, num_test=8, num_novel=0, num_texts=0, num_images_only=0)

    assert histogram_recall(ensure_scenes(tmp_path / "scenes", config)) > 0.3


@pytest.mark.slow
def test_the_baseline_is_low_and_the_ceiling_high_on_the_full_set(tmp_path: Path) -> None:
    folder = ensure_scenes(tmp_path / "scenes", SceneConfig())

    assert histogram_recall(folder) < 0.3
    assert histogram_recall(folder, "test_novel") < 0.3
    assert min(read_manifest(folder)["ceilings"].values()) >= 0.9


def test_a_contact_sheet_shows_the_images_above_their_captions(folder: Path) -> None:
    first_record = json.loads((folder / "test.jsonl").read_text("utf-8").splitlines()[0])
    sheet = contact_sheet(folder, num_rows=2, num_columns=3, tile_size=96)
    first = cv2.imread(str(folder / first_record["image"]))

    assert sheet.shape[1] == 3 * (96 + 16)
    shown = cv2.resize(first, (96, 96), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(sheet[8:104, 8:104], shown)
    assert (sheet[104:, :112] < 128).any()
