"""Cells told by the entries of a dictionary that they resemble."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.models.patch_dictionary import COLOUR_SHARE, PatchDictionary
from unimo_paddle.models.stem import NUM_DIRECTIONS, PatchStem, edges_and_colours

DIRECTIONS, COLOURS, SIZE = 3, 2, 12


def make_dictionary() -> PatchDictionary:
    paddle.seed(0)
    with paddle.utils.unique_name.guard():
        return PatchDictionary(DIRECTIONS, COLOURS, SIZE)


def random_channels(side: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, DIRECTIONS + COLOURS, side, side), dtype=np.float32)


def parameters(dictionary: PatchDictionary, kind: str) -> tuple[np.ndarray, ...]:
    part = getattr(dictionary, kind)
    layers = (part.whitening.weight, part.whitening.bias, part.entries)
    return tuple(each.numpy() for each in layers)


def slow_shares(rows: np.ndarray, weight: np.ndarray, bias: np.ndarray, entries: np.ndarray):
    """How much nearer than the mean each entry is, summed over rows [P, F] of one cell."""
    rows = rows.astype(np.float64) @ weight + bias
    total = np.zeros(len(entries))
    for row in rows:
        distances = np.sqrt(((row - entries) ** 2).sum(axis=1))
        total += np.maximum(distances.mean() - distances, 0)
    return np.sqrt(total / total.sum())


@pytest.mark.parametrize(("grid", "cell"), [(1, 2), (2, 4), (3, 2)])
def test_a_cell_shares_out_to_the_entries_it_is_nearer_to_than_to_the_mean(grid, cell) -> None:
    dictionary = make_dictionary()
    channels = random_channels(grid * cell)
    found = dictionary(paddle.to_tensor(channels), grid).numpy()
    assert found.shape == (2, grid**2, SIZE + SIZE // COLOUR_SHARE)

    padded = np.pad(channels[:, :DIRECTIONS], [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    for image, row, column in np.ndindex(2, grid, grid):
        places = [(row * cell + i, column * cell + j) for i in range(cell) for j in range(cell)]
        pieces = [
            padded[image, :, i : i + 4, j : j + 4].flatten()
            for i, j in places
            if i % 2 == 0 and j % 2 == 0
        ]
        colours = [channels[image, DIRECTIONS:, i, j] for i, j in places]
        expected = np.concatenate(
            [
                slow_shares(np.stack(rows), *parameters(dictionary, kind))
                for rows, kind in ((pieces, "edges"), (colours, "colours"))
            ]
        )
        np.testing.assert_allclose(found[image, row * grid + column], expected, atol=2e-3)


def test_updates_leave_the_entries_as_they_are() -> None:
    assert all(parameter.stop_gradient for parameter in make_dictionary().parameters())


def test_pixels_have_gradients_through_a_dictionary() -> None:
    dictionary = make_dictionary()
    channels = paddle.to_tensor(random_channels(4), stop_gradient=False)
    dictionary(channels, 2)[:, :, 0].sum().backward()
    assert np.isfinite(channels.grad.numpy()).all() and np.abs(channels.grad.numpy()).max() > 0


def test_a_stem_reads_edges_and_colours_through_its_dictionary() -> None:
    side, size = 8, 4
    with paddle.utils.unique_name.guard():
        stem = PatchStem(2, 3 * side**2, 16, 0.1, edge_size=size, dictionary_size=SIZE)
    assert not list(stem.convolutions)
    pixels = np.random.default_rng(0).standard_normal((2, 3, 2 * side, 2 * side), dtype=np.float32)
    patches = pixels.reshape(2, 3, 2, side, 2, side).transpose(0, 2, 4, 3, 5, 1)
    patches = paddle.to_tensor(patches.reshape(2, 4, -1))
    channels = edges_and_colours(paddle.to_tensor(pixels), size)
    shares = stem.dictionary(channels, 2).numpy() * np.sqrt((SIZE + SIZE // COLOUR_SHARE) / 2)
    np.testing.assert_allclose(stem.look_up(patches).numpy(), shares, atol=1e-5)
    assert abs((stem.look_up(patches).numpy() ** 2).mean() - 1) < 1e-3
    expected = shares @ stem.output.weight.numpy() + stem.output.bias.numpy()
    np.testing.assert_allclose(stem(patches).numpy(), expected, atol=1e-4)
    pieces, colours = stem.describe(patches)
    assert pieces.shape == [2, 4, 16 * NUM_DIRECTIONS] and colours.shape == [2, 16, 6]


def test_a_row_by_itself_is_told_without_its_neighbours() -> None:
    with paddle.utils.unique_name.guard():
        stem = PatchStem(1, 3 * 8**2, 16, 0.1, edge_size=4, dictionary_size=SIZE)
    rows = paddle.to_tensor(np.random.default_rng(0).standard_normal((2, 5, 192)), "float32")
    alone = stem(rows[:, 3:4]).numpy()
    np.testing.assert_allclose(stem(rows).numpy()[:, 3:4], alone, atol=1e-5)
    shares = stem.look_up(rows).numpy()
    assert shares.shape == (2, 5, stem.dictionary.num_entries)
    np.testing.assert_allclose(shares[:, 3:4], stem.look_up(rows[:, 3:4]).numpy(), atol=2e-3)
    for told, of_one in zip(stem.describe(rows), stem.describe(rows[:, 3:4]), strict=True):
        count = of_one.shape[1]
        assert told.shape == [2, 5 * count, of_one.shape[2]]
        pieces = told.numpy()[:, 3 * count : 4 * count]
        np.testing.assert_allclose(pieces, of_one.numpy(), atol=1e-5)
