"""Labelled objects: their rows, what is named at a point, and which names are learnt."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.data.images import ImageConfig, View
from unimo_paddle.data.objects import (
    LabelledObject,
    ObjectNames,
    encode_objects,
    parse_objects,
)
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import BadSample, UserError

GROUND = LabelledObject((0, 0, 1, 1), ("sand",))
BALL = LabelledObject((0.1, 0.1, 0.6, 0.6), ("ball", "red"))
CUP = LabelledObject((0.4, 0.4, 0.9, 0.9), ("cup", "red"))
NAMES = ObjectNames(("ball", "cup", "red", "sand"))
REACH = np.array([0.05, 0.05])


def named_at(*points: tuple[float, float], objects: tuple[LabelledObject, ...]) -> list[set[str]]:
    marks = NAMES.at(np.array(points), REACH, objects)
    return [{name for name, mark in zip(NAMES.names, row, strict=True) if mark} for row in marks]


def test_a_point_is_named_after_what_lies_in_front_there() -> None:
    points = (0.2, 0.2), (0.5, 0.5), (0.8, 0.8), (0.95, 0.2)
    expected = [{"ball", "red"}, {"cup", "red"}, {"cup", "red"}, {"sand"}]
    assert named_at(*points, objects=(GROUND, BALL, CUP)) == expected
    assert named_at((0.5, 0.5), objects=(CUP, BALL)) == [{"ball", "red"}]


def test_a_point_outside_every_box_has_no_name() -> None:
    assert named_at((0.2, 0.2), (0.95, 0.2), objects=(BALL,)) == [{"ball", "red"}, set()]
    assert named_at((0.2, 0.2), objects=()) == [set()]


def test_an_object_smaller_than_the_distance_of_points_is_still_met() -> None:
    rows, columns = np.divmod(np.arange(100), 10)
    points = (np.stack([columns, rows], axis=1) + 0.5) / 10
    rng = np.random.default_rng(0)
    for x, y in rng.uniform(0, 0.99, (200, 2)):
        marks = NAMES.at(points, REACH, [LabelledObject((x, y, x + 0.01, y + 0.01), ("cup",))])
        found = points[marks[:, 1] == 1]
        assert len(found) in (1, 2, 4)  # two and four where it lies on an edge or a corner
        assert (np.abs(found - (x + 0.005, y + 0.005)) <= 0.05 + 1e-9).all()


def test_names_that_are_not_learnt_are_left_out_but_still_cover() -> None:
    stone = LabelledObject((0.4, 0.4, 0.9, 0.9), ("stone", "red"))
    assert named_at((0.5, 0.5), objects=(BALL, stone)) == [{"red"}]


def test_names_of_an_object_are_its_own_whatever_lies_in_front() -> None:
    bare = LabelledObject((0, 0, 1, 1))
    marks = NAMES.of([CUP, GROUND, bare, LabelledObject((0, 0, 1, 1), ("stone", "ball"))])
    expected = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert marks.tolist() == expected


def test_the_commonest_names_are_kept() -> None:
    images = [(GROUND, BALL), (GROUND, CUP), (GROUND,)]
    assert ObjectNames.count(images, 10).names == ("sand", "red", "ball", "cup")
    assert ObjectNames.count(images, 3).names == ("sand", "red", "ball")
    assert not ObjectNames.count([(), ()], 10)


def test_a_list_of_names_is_read_as_it_was_written(tmp_path) -> None:
    names = ObjectNames(("Glas", "Wörter", "two words"))
    names.save(tmp_path / "names.json")
    assert ObjectNames.load(tmp_path / "names.json") == names


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "no list of texts"), ("[]", "no list of texts"), ("[", "no JSON")],
)
def test_a_damaged_list_of_names_is_refused(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError, match=message):
        ObjectNames.load(path)
    with pytest.raises(UserError, match="cannot be read"):
        ObjectNames.load(tmp_path / "none.json")


# ---- rows of objects

OBJECTS = ImageConfig(kind="objects", patch_size=4, max_regions=3, mean=(0, 0, 0), std=(1, 1, 1))


def painted(*boxes: tuple[int, int, int, int]) -> tuple[np.ndarray, list[LabelledObject]]:
    """An image of 40 x 20 pixels with boxes x1 y1 x2 y2 in greys 50, 100, ..., and the boxes."""
    image = np.zeros((20, 40, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        image[y1:y2, x1:x2] = 50 * number
    return image, [LabelledObject((x1 / 40, y1 / 20, x2 / 40, y2 / 20)) for x1, y1, x2, y2 in boxes]


def greys(features: np.ndarray) -> list[list[int]]:
    """The greys in each row."""
    return [np.unique(np.rint(255 * row)).astype(int).tolist() for row in features]


def test_a_row_holds_the_pixels_of_its_box_and_row_0_their_mean() -> None:
    image, objects = painted((0, 0, 10, 20), (10, 5, 30, 15))
    features, boxes, shown = encode_objects(image, View(0, 0, 40, 20), objects, OBJECTS, where="x")
    assert features.shape == (3, 48)
    assert greys(features) == [[75], [50], [100]]
    np.testing.assert_allclose(
        boxes, [[0, 0, 1, 1, 1], [0, 0, 0.25, 1, 0.25], [0.25, 0.25, 0.75, 0.75, 0.25]]
    )
    assert shown == objects


def test_a_view_shows_the_objects_whose_centre_it_holds_cut_at_its_edges() -> None:
    image, objects = painted((0, 0, 18, 10), (16, 10, 36, 20), (4, 12, 10, 18))
    view = View(10, 0, 20, 20)
    features, boxes, shown = encode_objects(image, view, objects, OBJECTS, where="x")
    assert shown == [objects[1]]
    assert greys(features[1:]) == [[100]]
    np.testing.assert_allclose(boxes[1], [0.3, 0.5, 1, 1, 0.35], atol=1e-6)


def test_a_mirrored_view_mirrors_pixels_and_boxes() -> None:
    image, objects = painted((4, 0, 12, 20))
    image[:, 4:8] = 7  # the left half
    plain, boxes, _ = encode_objects(image, View(0, 0, 40, 20), objects, OBJECTS, where="x")
    mirrored, places, _ = encode_objects(
        image, View(0, 0, 40, 20, is_flipped=True), objects, OBJECTS, where="x"
    )
    np.testing.assert_allclose(boxes[1], [0.1, 0, 0.3, 1, 0.2], atol=1e-6)
    np.testing.assert_allclose(places[1], [0.7, 0, 0.9, 1, 0.2], atol=1e-6)
    rows = plain[1].reshape(4, 4, 3), mirrored[1].reshape(4, 4, 3)
    np.testing.assert_allclose(rows[0][:, ::-1], rows[1], atol=1e-6)
    assert rows[0][0, 0, 0] < rows[0][0, 3, 0]


def test_a_view_without_an_object_gives_way_to_the_whole_image() -> None:
    image, objects = painted((0, 0, 10, 10))
    whole = encode_objects(image, View(0, 0, 40, 20), objects, OBJECTS, where="x")
    found = encode_objects(image, View(20, 10, 20, 10), objects, OBJECTS, where="x")
    np.testing.assert_array_equal(found[0], whole[0])
    np.testing.assert_array_equal(found[1], whole[1])


def test_boxes_of_less_than_a_pixel_still_have_a_row() -> None:
    image, _ = painted()
    image[19, 39] = 200
    corner = LabelledObject((0.999, 0.999, 1.0, 1.0))
    features, _, _ = encode_objects(image, View(0, 0, 40, 20), [corner], OBJECTS, where="x")
    assert greys(features) == [[200], [200]]


def test_no_more_rows_are_made_than_are_wanted() -> None:
    image, objects = painted(*((4 * i, 0, 4 * i + 4, 4) for i in range(5)))
    features, boxes, shown = encode_objects(image, View(0, 0, 40, 20), objects, OBJECTS, where="x")
    assert len(features) == len(boxes) == 4
    assert shown == objects[:3]


def test_an_image_without_objects_is_told() -> None:
    image, _ = painted()
    with pytest.raises(BadSample, match=r"7\.png: the record has no labelled objects; give"):
        encode_objects(image, View(0, 0, 40, 20), [], OBJECTS, where="7.png")


def test_objects_of_a_record_may_have_no_names() -> None:
    assert parse_objects(None) == ()
    assert parse_objects([{"box": [0, 0, 1, 0.5]}]) == (LabelledObject((0, 0, 1, 0.5)),)
    with pytest.raises(Fault, match=r"'objects\[0\]' must be an object with a box"):
        parse_objects([{"names": ["dog"]}])
