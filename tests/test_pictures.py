"""Pictures hold what they are drawn from, where a person looks for it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.pictures import (
    GAP,
    HIDDEN,
    RIGHT,
    TILE,
    attention_map,
    below,
    beside,
    fit,
    masked_patches,
    retrieval_sheet,
    running_mean,
    sheet,
    text_block,
    training_curves,
    write_picture,
)

BLUE = (20, 40, 220)
SAND = (220, 190, 120)


def plain(colour: tuple[int, int, int], height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((image == colour).all(axis=-1).sum())


def test_hidden_patches_are_covered_and_the_others_are_not() -> None:
    is_visible = np.ones((1, 4, 4), bool)
    is_visible[0, 1:3, :2] = False
    drawn = masked_patches([plain(BLUE)], is_visible)
    # The image once whole and once without 4 of its 16 patches, in squares of TILE pixels.
    assert count(drawn, BLUE) == TILE * TILE + TILE * TILE * 12 // 16
    assert count(drawn, HIDDEN) > 0.9 * TILE * TILE * 4 / 16


def test_reconstruction_shows_in_hidden_patches_only() -> None:
    is_visible = np.ones((2, 4, 4), bool)
    is_visible[:, 1:3, 1:3] = False
    drawn = masked_patches([plain(BLUE)] * 2, is_visible, [plain(SAND)] * 2)
    shown = count(drawn, SAND)
    assert 0.8 * 2 * TILE * TILE / 4 < shown <= 2 * TILE * TILE / 4
    assert count(drawn, BLUE) > 2 * TILE * TILE * (1 + 3 / 4 + 3 / 4) * 0.95


def test_right_image_alone_has_the_green_frame() -> None:
    images = [[plain(BLUE), plain(SAND)]]
    found = retrieval_sheet(["a caption"], images, [[False, True]])
    missed = retrieval_sheet(["a caption"], images, [[False, False]])
    frame_size = TILE * TILE - (TILE - 12) ** 2
    assert frame_size <= count(found, RIGHT) < 1.3 * frame_size  # the note is green too
    assert count(missed, RIGHT) == 0
    second = found[:, -TILE - GAP :]
    assert count(second, RIGHT) == frame_size


def test_sheet_of_captions_has_a_row_each() -> None:
    images = [[plain(BLUE)] * 3] * 4
    drawn = retrieval_sheet(["a", "b " * 100, "c", "d"], images, [[False] * 3] * 4)
    assert drawn.shape[0] == 4 * TILE + 3 * GAP + 2 * GAP


def test_word_lights_the_place_it_looks_at() -> None:
    weights = np.zeros((2, 4, 4))
    weights[0, 0, 0] = 0.2
    weights[1, 3, 3] = 0.01
    drawn = attention_map(plain((120, 120, 120)), ["left", "right"], weights).astype(int)
    tiles = [drawn[GAP : GAP + TILE, GAP + i * (TILE + GAP) :][:, :TILE] for i in range(3)]
    brightness = [tile.sum(axis=2) for tile in tiles]
    corner = TILE // 8
    assert brightness[1][corner, corner] > 2 * brightness[1][-corner, -corner]
    assert brightness[2][-corner, -corner] > 2 * brightness[2][corner, corner]
    assert (tiles[0] == 120).all()


def test_attention_without_any_weight_is_drawn() -> None:
    drawn = attention_map(plain(BLUE), ["word"], np.zeros((1, 3, 3)))
    assert drawn.dtype == np.uint8


def test_drawing_leaves_its_inputs_as_they_were() -> None:
    image, is_visible = plain(BLUE, 132, 132), np.zeros((1, 2, 2), bool)
    masked_patches([image], is_visible, [image])
    retrieval_sheet(["a"], [[image]], [[True]])
    attention_map(image, ["a"], np.ones((1, 2, 2)))
    assert count(image, BLUE) == 132 * 132
    assert not is_visible.any()


def test_curves_draw_a_panel_for_each_name() -> None:
    steps = np.arange(30)
    curves = {f"train/{i}": (steps, np.sin(steps + i)) for i in range(4)}
    curves["train/gap"] = (steps, np.where(steps == 7, np.nan, steps))
    drawn = training_curves(curves)
    one = training_curves({"train/loss": (steps, steps)})
    assert drawn.dtype == np.uint8
    assert drawn.shape == (2 * one.shape[0], 3 * one.shape[1], 3)


def test_no_curves_are_one_clear_error() -> None:
    with pytest.raises(UserError, match="no curves to draw"):
        training_curves({})


def test_running_mean_passes_over_what_is_no_number() -> None:
    values = np.where(np.arange(100) == 50, np.nan, 2.0)
    np.testing.assert_allclose(running_mean(values), 2.0)


def test_picture_is_read_back_equal(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    write_picture(tmp_path / "new" / "a.png", image)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "new" / "a.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (300, 100), (10, 40), (1, 1)])
def test_fitted_image_keeps_its_shape(height: int, width: int) -> None:
    fitted = fit(plain(BLUE, height, width), 120)
    rows, columns = np.nonzero((fitted == BLUE).all(axis=-1))
    found = (np.ptp(rows) + 1) / (np.ptp(columns) + 1)
    assert fitted.shape == (120, 120, 3)
    assert found == pytest.approx(height / width, rel=0.03)


@pytest.mark.parametrize("text", ["a few words", "w" * 300, "", "naïve 你好", "a\nb\tc"])
def test_text_stays_within_its_width(text: str) -> None:
    block = text_block(text, width=150, max_lines=9)
    wide = text_block(text, width=400, max_lines=9)
    assert block.shape[1] == 150
    # Where the text has room at its right, nothing was cut off.
    assert (block[:, -1] == 255).all()
    assert (wide.min() < 120) == bool(text)


def test_long_text_ends_in_dots() -> None:
    assert text_block("word " * 100, width=150, max_lines=3).shape == (60, 150, 3)


def test_tiles_are_laid_out_with_gaps() -> None:
    tiles = [plain(BLUE, 10, 20)] * 5
    assert beside(tiles[:2], gap=4).shape == (10, 44, 3)
    assert below(tiles[:3], gap=4).shape == (38, 20, 3)
    drawn = sheet(tiles, num_columns=3)
    assert drawn.shape == (20 + GAP, 60 + 2 * GAP, 3)
    assert count(drawn, BLUE) == 5 * 200
