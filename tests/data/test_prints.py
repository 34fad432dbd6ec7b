"""Copies of images are found whatever was done to them, and others are not taken for copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import draw_picture, write_picture_file
from unimo_paddle.data.prints import Copy, find_copies, print_images

NUM_PICTURES = 24


def cut(image: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    height, width = image.shape[:2]
    return image[
        round(top * height) : height - round(bottom * height),
        round(left * width) : width - round(right * width),
    ]


def halve(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "encoded again": (lambda image: image, 50),
    "resized": (halve, 90),
    "cropped by 5 % at each side": (lambda image: cut(image, 0.05, 0.05, 0.05, 0.05), 90),
    "cropped by 5 % at two sides": (lambda image: cut(image, 0.05, 0.05, 0, 0), 90),
    "mirrored": (lambda image: image[:, ::-1], 90),
    "all at once": (lambda image: halve(cut(image, 0.03, 0.03, 0.03, 0.03)[:, ::-1]), 50),
    "brighter": (lambda image: np.clip(image * 1.2 + 10, 0, 255).astype(np.uint8), 90),
    "grey": (
        lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
        90,
    ),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    return [
        write_picture_file(folder / f"{seed}.jpg", draw_picture(seed))
        for seed in range(NUM_PICTURES)
    ]


def copies(these: list[Path], those: list[Path]) -> list[Copy]:
    prints = print_images(these), print_images(those)
    return list(find_copies(*prints, these_paths=these, those_paths=those))


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(
    tmp_path: Path, pictures: list[Path], change: str
) -> None:
    make, quality = CHANGES[change]
    changed = [
        write_picture_file(tmp_path / f"{seed}.jpg", make(draw_picture(seed)), quality=quality)
        for seed in range(NUM_PICTURES)
    ]
    found = {(copy.this, copy.that) for copy in copies(changed, pictures)}
    right = {(number, number) for number in range(NUM_PICTURES)}
    assert found <= right
    # Crops move every frequency that the hash looks at: about one in a hundred is lost.
    assert len(found) >= NUM_PICTURES - 1


def test_a_mirrored_copy_is_called_mirrored(tmp_path: Path, pictures: list[Path]) -> None:
    mirrored = write_picture_file(tmp_path / "a.jpg", draw_picture(3)[:, ::-1])
    assert [copy.is_mirrored for copy in copies([mirrored], pictures)] == [True]


def test_the_same_bytes_score_one(tmp_path: Path, pictures: list[Path]) -> None:
    (tmp_path / "b.jpg").write_bytes(pictures[5].read_bytes())
    (copy,) = copies([tmp_path / "b.jpg"], pictures)
    assert (copy.that, copy.score) == (5, 1.0)


def test_other_pictures_are_no_copies(tmp_path: Path, pictures: list[Path]) -> None:
    others = [
        write_picture_file(tmp_path / f"{seed}.jpg", draw_picture(seed)) for seed in range(100, 140)
    ]
    assert copies(others, pictures) == []


def test_files_that_cannot_be_read_are_no_copies_of_each_other(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for path in paths:
        path.write_bytes(b"no image")
    assert print_images(paths)["is_usable"].tolist() == [0, 0]
    assert copies(paths[:1], paths[1:]) == []
