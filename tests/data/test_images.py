"""Images as rows of features: patches, regions, crops and flips."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from unimo_paddle.data.images import (
    ImageConfig,
    Regions,
    choose_view,
    encode_image,
    encode_regions,
    encode_view,
    mentions_side,
    patchify,
    unpatchify,
)
from unimo_paddle.errors import BadSample, UserError

CONFIG = ImageConfig(image_size=4, patch_size=2, mean=(0.5, 0.0, 0.0), std=(0.5, 1.0, 1.0))
REGIONS = ImageConfig(kind="regions", feature_size=2, max_regions=3)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_patch_holds_its_pixels_row_by_row():
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 3] = (255, 51, 102)  # the second pixel of the second cell
    features, _ = patchify(image, CONFIG)
    assert features.shape == (5, 12)
    np.testing.assert_allclose(features[2, :6], [-1, 0, 0, 1, 0.2, 0.4], atol=1e-6)
    np.testing.assert_allclose(features[1], [-1, 0, 0] * 4)


def test_row_0_is_the_mean_with_the_box_of_the_whole_image():
    features, boxes = patchify(random_image(4, 4), CONFIG)
    np.testing.assert_allclose(features[0], features[1:].mean(0), atol=1e-6)
    assert boxes[0].tolist() == [0, 0, 1, 1, 1]


def test_boxes_are_those_of_the_grid_cells():
    _, boxes = patchify(random_image(4, 4), CONFIG)
    assert boxes[2].tolist() == [0.5, 0, 1, 0.5, 0.25]
    assert boxes[3].tolist() == [0, 0.5, 0.5, 1, 0.25]


@pytest.mark.parametrize("with_row_0", [True, False])
def test_patches_go_back_to_the_same_pixels(with_row_0):
    config = ImageConfig(image_size=48, patch_size=16)
    image = random_image(48, 48)
    features, _ = patchify(image, config)
    assert (unpatchify(features if with_row_0 else features[1:], config) == image).all()


def test_evaluation_sees_the_whole_image():
    image = np.zeros((80, 40, 3), np.uint8)
    image[:40] = 255
    features, _ = encode_image(image, ImageConfig(image_size=32, patch_size=16))
    pixels = unpatchify(features, ImageConfig(image_size=32, patch_size=16))
    assert pixels[:16].min() == 255
    assert pixels[16:].max() == 0


def test_the_same_generator_gives_the_same_view():
    image, config = random_image(50, 70), ImageConfig(image_size=32)
    first, again, other = (
        encode_image(image, config, rng=np.random.default_rng(seed))[0] for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_half_of_the_images_are_mirrored():
    config = ImageConfig(image_size=4, patch_size=4, crop_scale=1.0, crop_ratio=1.0)
    image = random_image(4, 4)
    rng = np.random.default_rng(0)
    views = [unpatchify(encode_image(image, config, rng=rng)[0], config) for _ in range(400)]
    mirrored = np.array([(view == image[:, ::-1]).all() for view in views])
    straight = np.array([(view == image).all() for view in views])
    assert (mirrored ^ straight).all()
    assert 150 < mirrored.sum() < 250  # five standard deviations


@pytest.mark.parametrize(
    ("config", "captions"),
    [
        (ImageConfig(image_size=4, patch_size=4, crop_scale=1.0, crop_ratio=1.0), ["on the left"]),
        (ImageConfig(image_size=4, patch_size=4, crop_scale=1, crop_ratio=1, flip=False), ["a"]),
    ],
)
def test_an_image_is_never_mirrored_against_its_caption_or_the_setting(config, captions):
    image, rng = random_image(4, 4), np.random.default_rng(0)
    views = [encode_image(image, config, rng=rng, captions=captions)[0] for _ in range(50)]
    assert all((unpatchify(view, config) == image).all() for view in views)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog on the LEFT .", True),
        ("the leftmost cup", True),
        ("a right-handed player", True),
        ("the righthand side", True),
        ("a bright kite", False),
        ("cleft chin", False),
        ("he leaves", False),
    ],
)
def test_captions_that_name_a_side_are_found(caption, expected):
    assert mentions_side(["a dog", caption]) is expected


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (37, 91), (160, 160)])
def test_any_image_can_be_cropped(shape):
    rng = np.random.default_rng(0)
    config = ImageConfig(image_size=32, crop_scale=0.1)
    image = random_image(*shape)
    for _ in range(20):
        view = choose_view(image, config, rng=rng)
        assert view.left >= 0 and view.top >= 0 and view.width > 0 and view.height > 0
        assert view.left + view.width <= shape[1] and view.top + view.height <= shape[0]
        features, _ = encode_view(image, view, config)
        assert features.shape == (1 + 4, 3 * 16**2)


def test_cells_of_a_view_lie_where_their_pixels_come_from():
    """The image's red and green tell where a pixel is, so a cell's mean tells where it lies."""
    height, width = 120, 200
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    config = ImageConfig(image_size=64, patch_size=16, mean=(0, 0, 0), std=(1, 1, 1))
    rng = np.random.default_rng(0)
    flips = set()
    for _ in range(20):
        view = choose_view(image, config, rng=rng)
        features, _ = encode_view(image, view, config)
        means = 255 * features[1:].reshape(16, -1, 3).mean(axis=1)
        centres, reach = view.cells(config.grid_size, (height, width))
        # Pixel 0 is half a pixel from the edge.
        np.testing.assert_allclose(centres * (width, height) - 0.5, means[:, :2], atol=1.0)
        np.testing.assert_allclose(reach * 8 * (width, height), (view.width, view.height))
        flips.add(view.is_flipped)
    assert flips == {True, False}


def test_regions_are_scaled_by_the_image_size():
    regions = Regions(
        np.array([[1, 2], [3, 6]]), np.array([[0, 0, 10, 20], [5, 10, 10, 20]]), 10, 40
    )
    features, boxes = encode_regions(regions, REGIONS, where="r")
    assert features.tolist() == [[2, 4], [1, 2], [3, 6]]
    assert boxes.tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 0.5, 0.5], [0.5, 0.25, 1, 0.5, 0.125]]


def test_the_first_regions_are_kept_and_all_make_the_mean():
    boxes = np.tile([0, 0, 1, 1], (5, 1))
    features, _ = encode_regions(
        Regions(np.arange(10).reshape(5, 2), boxes, 1, 1), REGIONS, where="r"
    )
    assert features.tolist() == [[4, 5], [0, 1], [2, 3], [4, 5]]


def test_boxes_outside_the_image_pass_where_that_is_asked_for():
    regions = Regions(np.ones((1, 2)), np.array([[0, 0, 4, 8]]), 8, 4)
    with pytest.raises(BadSample, match="lies outside"):
        encode_regions(regions, REGIONS, where="r")
    _, boxes = encode_regions(regions, REGIONS, where="r", are_boxes_inside=False)
    assert boxes[1].tolist() == [0, 0, 0.5, 2, 1]


def test_regions_are_encoded_as_by_the_original(shared_dir):
    folder = shared_dir / "reference" / "official"
    line = (folder / "reader_inputs" / "ve" / "part-0").read_text().splitlines()[0].split(";")
    width, height, number = float(line[7]), float(line[8]), int(line[9])
    boxes, features = (np.frombuffer(base64.b64decode(line[i]), "<f4") for i in (10, 11))
    regions = Regions(features.reshape(number, 8), boxes.reshape(number, 4), width, height)
    config = ImageConfig(kind="regions", feature_size=8)
    rows, places = encode_regions(regions, config, where="r")
    recorded = np.load(folder / "reader_ve_records.npz")
    np.testing.assert_allclose(rows, recorded["0/image_embedding"][0, : number + 1], rtol=1e-6)
    np.testing.assert_allclose(places, recorded["0/image_loc"][0, : number + 1], rtol=1e-5)


BOX = [[0, 0, 5, 5]]
FAULTS = {
    "a wrong feature size": (np.ones((1, 3)), BOX, 10, r"shape \[1, 3\], expected \[n, 2\]"),
    "a missing box": (np.ones((2, 2)), BOX, 10, r"boxes have shape \[1, 4\], expected \[2, 4\]"),
    "no regions": (np.ones((0, 2)), np.ones((0, 4)), 10, "no regions"),
    "features not a number": (np.full((1, 2), np.nan), BOX, 10, "features hold a value"),
    "a box not a number": (np.ones((1, 2)), [[0, 0, np.nan, 5]], 10, "boxes hold a value"),
    "a box outside": (np.ones((1, 2)), [[0, 0, 12, 5]], 10, "box 0 .* lies outside the 10 x 10"),
    "a negative box": (np.ones((1, 2)), [[-3, 0, 2, 5]], 10, "lies outside"),
    "an empty box": (np.ones((1, 2)), [[5, 0, 5, 5]], 10, "is empty"),
    "an image without size": (np.ones((1, 2)), BOX, 0, "image size 0.0 x 0.0"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_bad_regions_are_named(case):
    features, boxes, side, message = FAULTS[case]
    with pytest.raises(BadSample, match=message) as caught:
        encode_regions(Regions(features, np.array(boxes), side, side), REGIONS, where="a.jsonl:7")
    assert caught.value.where == "a.jsonl:7"


def test_a_class_distribution_is_needed_for_every_region():
    regions = Regions(np.ones((1, 2)), np.array(BOX), 10, 10, np.ones((3, 5)))
    with pytest.raises(BadSample, match="3 class distributions for 1 regions"):
        encode_regions(regions, REGIONS, where="r")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "pixels"}, "image.kind 'pixels' is unknown"),
        ({"image_size": 100}, "no multiple"),
        ({"patch_size": 0}, "image.patch_size is 0; give"),
        ({"std": (1.0, 0.0, 1.0)}, "image.std"),
        ({"mean": (float("nan"), 0.0, 1.0)}, "image.mean"),
        ({"mean": (0.5,)}, "three numbers"),
        ({"crop_scale": 0.0}, "image.crop_scale is 0.0"),
        ({"crop_ratio": 0.5}, "image.crop_ratio is 0.5"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(UserError, match=message):
        ImageConfig(**setting)


def test_the_config_knows_the_shapes():
    assert (ImageConfig().num_rows, ImageConfig().region_feature_size) == (101, 768)
    config = ImageConfig(kind="regions")
    assert (config.num_rows, config.region_feature_size) == (101, 2048)


@pytest.mark.parametrize(("end", "is_fine"), [(1.004, True), (1.01, False)])
def test_boxes_in_shares_may_end_hardly_outside(end: float, is_fine: bool) -> None:
    """A pixel of tolerance would be the whole image."""
    boxes = np.float32([[0.5, 0.25, end, 1.0]])
    regions = Regions(np.ones((1, 2), np.float32), boxes, width=1, height=1)
    if is_fine:
        _, places = encode_regions(regions, REGIONS, where="x")
        np.testing.assert_array_equal(places[1, :4], boxes[0])
    else:
        with pytest.raises(BadSample, match="lies outside the 1 x 1 image"):
            encode_regions(regions, REGIONS, where="x")
