"""Rows are hidden, picked and pooled as their descriptions say, padding included."""

from __future__ import annotations

import numpy as np
import paddle

from unimo_paddle.models.rows import hide_rows, pool_places, pool_rows

CELLS = np.array(
    [[x / 3, y / 3, (x + 1) / 3, (y + 1) / 3, 1 / 9] for y in range(3) for x in range(3)]
)
BOXES = np.concatenate([[[0, 0, 1, 1, 1]], CELLS]).astype("float32")[None]  # [1, 10, 5]


def rows(num_rows: int = 10, size: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, num_rows, size)).astype("float32")


def pooled(hidden: np.ndarray, boxes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return pool_places(*map(paddle.to_tensor, (hidden, boxes, mask))).numpy()


def hidden_rows(features: list, hidden: list, mask: list) -> np.ndarray:
    arrays = (np.array([values], "float32") for values in (features, hidden, mask))
    return hide_rows(*map(paddle.to_tensor, arrays)).numpy()[0]


def test_hidden_rows_are_zero_and_row_0_is_the_mean_of_the_visible() -> None:
    features = [[2, 2], [1, 2], [3, 4], [5, 0], [7, 7]]  # the last is padding
    found = hidden_rows(features, [0, 0, 1, 0, 0], [1, 1, 1, 1, 0])
    assert found.tolist() == [[3, 1], [1, 2], [0, 0], [5, 0], [0, 0]]


def test_an_image_whose_rows_are_all_hidden_has_a_zero_mean() -> None:
    assert not hidden_rows([[1, 1]] * 3, [0, 1, 1], [1, 1, 1]).any()


def test_the_mean_leaves_out_padding() -> None:
    hidden = rows()
    mask = np.array([[1] * 6 + [0] * 4], "float32")
    found = pool_rows(paddle.to_tensor(hidden), paddle.to_tensor(mask)).numpy()
    np.testing.assert_allclose(found, hidden[:, :6].mean(axis=1), rtol=1e-5, atol=1e-6)


def test_places_follow_the_mean_of_all_rows() -> None:
    hidden = rows()
    found = pooled(hidden, BOXES, np.ones((1, 10), "float32"))
    assert found.shape == (1, 10 * 4)
    np.testing.assert_allclose(found[:, :4], hidden.mean(axis=1), rtol=1e-5, atol=1e-6)


def test_a_place_weighs_rows_by_a_bell_of_their_distance() -> None:
    hidden = rows()
    found = pooled(hidden, BOXES, np.ones((1, 10), "float32")).reshape(10, 4)
    centres = 0.5 * (BOXES[0, 1:, :2] + BOXES[0, 1:, 2:4])
    for place in range(9):
        distance = ((centres - centres[place]) ** 2).sum(axis=1)
        weight = np.exp(-distance / (2 * (1 / 6) ** 2))
        expected = weight @ hidden[0, 1:] / weight.sum()
        np.testing.assert_allclose(found[1 + place], expected, rtol=1e-4, atol=1e-5)


def test_the_whole_image_counts_for_no_place() -> None:
    hidden, mask = rows(), np.ones((1, 10), "float32")
    changed = hidden.copy()
    changed[0, 0] += 100.0
    before, after = pooled(hidden, BOXES, mask), pooled(changed, BOXES, mask)
    np.testing.assert_array_equal(before[:, 4:], after[:, 4:])


def test_padding_changes_no_place() -> None:
    hidden, mask = rows(), np.ones((1, 10), "float32")
    wider = np.concatenate([hidden, np.full((1, 3, 4), 9.0, "float32")], axis=1)
    boxes = np.concatenate([BOXES, np.zeros((1, 3, 5), "float32")], axis=1)
    padded = np.concatenate([mask, np.zeros((1, 3), "float32")], axis=1)
    np.testing.assert_allclose(
        pooled(wider, boxes, padded), pooled(hidden, BOXES, mask), rtol=1e-5, atol=1e-6
    )


def test_an_image_without_parts_stays_finite() -> None:
    found = pooled(rows(1), BOXES[:, :1], np.ones((1, 1), "float32"))
    assert np.isfinite(found).all()
