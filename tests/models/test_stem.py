"""The convolutions that read a grid of patches."""

from __future__ import annotations

import cv2
import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from unimo_paddle.data.images import ImageConfig, encode_image
from unimo_paddle.models import ModelConfig, UnifiedTransformer
from unimo_paddle.models.embeddings import RegionEmbedding
from unimo_paddle.models.stem import (
    NUM_DIRECTIONS,
    SMALLEST_CONTRAST,
    SMALLEST_EDGE,
    PatchStem,
    edges_and_colours,
    patch_side,
)

GRID, SIDE, WIDTH = 3, 4, 16
FEATURES = 3 * SIDE**2
SIZES = {
    "vocab_size": 50,
    "hidden_size": WIDTH,
    "num_layers": 1,
    "num_heads": 2,
    "max_positions": 20,
    "region_feature_size": FEATURES,
}
IMAGES = ImageConfig(image_size=GRID * SIDE, patch_size=SIDE)


def make_stem() -> PatchStem:
    paddle.seed(0)
    with paddle.utils.unique_name.guard():
        return PatchStem(GRID, FEATURES, WIDTH, 0.1)


def random_image(seed: int = 0) -> np.ndarray:
    side = GRID * SIDE
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_patches_are_read_as_the_image_that_they_were_cut_from() -> None:
    stem = make_stem()
    image = random_image()
    features, _ = encode_image(image, IMAGES)
    found = stem(paddle.to_tensor(features[None, 1:])).numpy()

    pixels = unnormalised(features)
    hidden = np.concatenate([pixels, evened(pixels)], axis=1)
    strides = [2] * (len(stem.convolutions) - 1) + [1]
    for convolution, stride in zip(stem.convolutions, strides, strict=True):
        hidden = gelu(slide(hidden, convolution.weight.numpy(), stride))
    rows = hidden.transpose(0, 2, 3, 1).reshape(1, GRID**2, WIDTH)
    expected = rows @ stem.output.weight.numpy() + stem.output.bias.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def unnormalised(features: np.ndarray) -> np.ndarray:
    """The normalised pixels [1, 3, H, W] of an image's rows, put together one by one."""
    pixels = np.zeros((1, 3, GRID * SIDE, GRID * SIDE), np.float32)
    for cell, row in enumerate(features[1:]):
        top, left = SIDE * (cell // GRID), SIDE * (cell % GRID)
        piece = row.reshape(SIDE, SIDE, 3).transpose(2, 0, 1)
        pixels[0, :, top : top + SIDE, left : left + SIDE] = piece
    return pixels


def evened(image: np.ndarray) -> np.ndarray:
    """``even_contrast`` pixel by pixel."""
    centred = image - around(image)
    variance = around((centred**2).mean(axis=1, keepdims=True))
    return centred / np.sqrt(variance + SMALLEST_CONTRAST**2)


def around(image: np.ndarray) -> np.ndarray:
    """The mean of what lies within two pixels of each pixel."""
    means = np.empty_like(image)
    for row, column in np.ndindex(*image.shape[2:]):
        rows, columns = slice(max(0, row - 2), row + 3), slice(max(0, column - 2), column + 3)
        means[:, :, row, column] = image[:, :, rows, columns].mean(axis=(2, 3))
    return means


def slide(image: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """Slide 3 x 3 weights [after, before, 3, 3] over [1, before, N, N]."""
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
    size = image.shape[2] // stride
    out = np.zeros((1, len(weight), size, size), np.float32)
    for row, column in np.ndindex(size, size):
        top, left = stride * row, stride * column
        piece = padded[0, :, top : top + 3, left : left + 3]
        out[0, :, row, column] = (weight * piece).sum(axis=(1, 2, 3))
    return out


def gelu(x: np.ndarray) -> np.ndarray:
    return F.gelu(paddle.to_tensor(x)).numpy()


def test_edges_are_counted_by_direction_whatever_their_strength() -> None:
    side, size = GRID * SIDE, 2
    image = np.random.default_rng(1).standard_normal((1, 3, side, side), dtype=np.float32)
    found = edges_and_colours(paddle.to_tensor(image), size).numpy()[0]

    grey = np.pad(np.tensordot([0.299, 0.587, 0.114], image[0], 1), 1, mode="edge")
    right, down = grey[1:-1, 2:] - grey[1:-1, :-2], grey[2:, 1:-1] - grey[:-2, 1:-1]
    angles = 2 * np.pi * np.arange(NUM_DIRECTIONS) / NUM_DIRECTIONS
    slopes = np.stack([np.cos(angle) * right + np.sin(angle) * down for angle in angles])
    strengths = mean_of_squares(np.maximum(slopes, 0), size)
    total = np.pad(strengths.sum(axis=0), 1, constant_values=np.nan)
    num_places = side // size
    for row, column in np.ndindex(num_places, num_places):
        mean = np.nanmean(total[row : row + 3, column : column + 3])
        shares = np.sqrt(strengths[:, row, column] / (mean + SMALLEST_EDGE) + 1e-4)
        np.testing.assert_allclose(found[:NUM_DIRECTIONS, row, column], 3 * shares - 1, atol=1e-4)
    colours = mean_of_squares(image[0], size)
    np.testing.assert_allclose(found[NUM_DIRECTIONS:-3], 2 * colours, atol=1e-5)
    np.testing.assert_allclose(found[-3:], 4 * (colours - around(colours[None])[0]), atol=1e-5)


def test_slopes_are_measured_between_quarters_of_a_square() -> None:
    image = np.random.default_rng(1).standard_normal((1, 3, 16, 16), dtype=np.float32)
    halved = mean_of_squares(image[0], 2)[None]
    found, expected = (
        edges_and_colours(paddle.to_tensor(x), size).numpy()[0, :NUM_DIRECTIONS]
        for x, size in ((image, 8), (halved, 4))
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def mean_of_squares(image: np.ndarray, size: int) -> np.ndarray:
    """The means over squares of so many pixels a side of [C, H, W]."""
    channels, height, width = image.shape
    squares = image.reshape(channels, height // size, size, width // size, size)
    return squares.mean(axis=(2, 4))


@pytest.mark.parametrize(("angle", "direction"), [(0, 0), (90, 2), (180, 4), (270, 6)])
def test_an_edge_counts_where_it_grows_bright(angle: int, direction: int) -> None:
    image = np.rot90(np.tile(np.linspace(-1, 1, 12, dtype=np.float32), (12, 1)), -angle // 90)
    picture = paddle.to_tensor(np.tile(image, (1, 3, 1, 1)))
    shares = edges_and_colours(picture, 4).numpy()[0, :NUM_DIRECTIONS, 1, 1]
    faint = edges_and_colours(0.5 * picture, 4).numpy()[0, :NUM_DIRECTIONS, 1, 1]
    assert shares.argmax() == faint.argmax() == direction
    assert shares[direction] > 2 * shares[direction - 2]
    assert abs(faint[direction] - shares[direction]) < 0.2 * (shares[direction] + 1)


def test_convolutions_begin_at_edges() -> None:
    features = 3 * 8**2
    with paddle.utils.unique_name.guard():
        stem = PatchStem(2, features, WIDTH, 0.1, edge_size=4)
    shapes = [layer.weight.shape for layer in stem.convolutions]
    assert shapes == [[WIDTH, NUM_DIRECTIONS + 6, 3, 3], [WIDTH, WIDTH, 3, 3]]
    rows = np.random.default_rng(0).standard_normal((3, 4, features), dtype=np.float32)
    out = stem(paddle.to_tensor(rows))
    assert out.shape == [3, 4, WIDTH]
    out.square().sum().backward()
    assert all(np.abs(p.grad.numpy()).max() > 0 for p in stem.parameters())


@pytest.mark.parametrize("num_rows", [1, 2, 7])
def test_a_grid_of_one_reads_each_row_alone(num_rows: int) -> None:
    with paddle.utils.unique_name.guard():
        stem = PatchStem(1, FEATURES, WIDTH, 0.1)
    rows = np.random.default_rng(0).standard_normal((3, num_rows, FEATURES), dtype=np.float32)
    found = stem(paddle.to_tensor(rows)).numpy()
    assert found.shape == (3, num_rows, WIDTH)
    for image, number in np.ndindex(3, num_rows):
        alone = stem(paddle.to_tensor(rows[image, number][None, None])).numpy()
        np.testing.assert_allclose(found[image, number], alone[0, 0], atol=1e-5)


def test_every_weight_of_the_stem_gets_a_gradient() -> None:
    stem = make_stem()
    features, _ = encode_image(random_image(), IMAGES)
    stem(paddle.to_tensor(features[None, 1:])).square().sum().backward()
    names = {p.name for p in stem.parameters() if np.abs(p.grad.numpy()).max() > 0}
    assert names == {f"patch_stem_{i}.w_0" for i in range(3)} | {
        "patch_stem_fc.w_0",
        "patch_stem_fc.b_0",
    }


def test_the_whole_image_stays_a_linear_layer() -> None:
    embedding, features, boxes = embed_random_image()
    found = embedding(embedding.project(features), boxes).numpy()
    whole = embedding.feature_norm(embedding.feature(features[:, :1]))
    place = embedding.location_norm(embedding.location(boxes[:, :1]))
    assert found.shape == (1, 1 + GRID**2, WIDTH)
    np.testing.assert_allclose(found[:, :1], embedding.norm(whole + place).numpy(), atol=1e-6)


def test_loud_convolutions_do_not_drown_the_place_of_a_patch() -> None:
    paddle.seed(0)
    embedding, features, boxes = embed_random_image()
    embedding.stem.output.weight.set_value(1000 * embedding.stem.output.weight)
    elsewhere = paddle.to_tensor(boxes.numpy()[:, ::-1].copy())
    projected = embedding.project(features)
    change = embedding(projected, boxes) - embedding(projected, elsewhere)
    assert change[:, 1].square().mean() > 0.1  # of rows whose squares have a mean of 1


def embed_random_image() -> tuple[RegionEmbedding, paddle.Tensor, paddle.Tensor]:
    with paddle.utils.unique_name.guard():
        model = UnifiedTransformer(ModelConfig(**SIZES, patch_grid=GRID))
    model.eval()
    features, boxes = encode_image(random_image(), IMAGES)
    tensors = paddle.to_tensor(features[None]), paddle.to_tensor(boxes[None])
    return model.region_embedding, *tensors


def test_a_picture_moved_by_a_patch_is_read_alike_a_patch_further() -> None:
    grid = 9  # wide enough that the positions compared see no edge
    side = grid * SIDE
    images = ImageConfig(image_size=side, patch_size=SIDE)
    with paddle.utils.unique_name.guard():
        stem = PatchStem(grid, FEATURES, WIDTH, 0.1)
    image = np.full((side, side, 3), 127, np.uint8)
    cv2.circle(image, (17, 18), 3, (250, 20, 40), -1)
    first, second = (
        stem(paddle.to_tensor(encode_image(picture, images)[0][None, 1:]))
        .numpy()
        .reshape(grid, grid, WIDTH)
        for picture in (image, np.roll(image, SIDE, axis=1))
    )
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_allclose(first[4, 4], second[4, 5], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "side"), [(12, 2), (48, 4), (768, 16), (3, 0), (27, 0), (49, 0), (2048, 0)]
)
def test_only_patches_of_a_power_of_two_can_be_halved(size: int, side: int) -> None:
    assert patch_side(size) == side
