"""Labelled objects: what is named at a point, and which names are learnt."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.data.objects import LabelledObject, ObjectNames
from unimo_paddle.errors import UserError

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
