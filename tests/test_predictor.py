"""The Python API over a bundle; that it equals evaluation is in the contract test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.data.image_files import read_image
from unimo_paddle.errors import UserError
from unimo_paddle.predictor import Predictor

# Float32, and matrices of another number of rows.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return Predictor(bundle)


@pytest.fixture(scope="module")
def images(scenes_dir: Path) -> list[Path]:
    return sorted((scenes_dir / "images").glob("*.png"))[:5]


def test_features_have_length_one(predictor: Predictor, images) -> None:
    for features in (predictor.embed_images(images), predictor.embed_texts(["a red circle"])):
        np.testing.assert_allclose((features**2).sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("form", [str, read_image], ids=["text", "pixels"])
def test_image_is_the_same_as_path_text_or_pixels(predictor: Predictor, images, form) -> None:
    expected = predictor.embed_images(images)
    np.testing.assert_array_equal(predictor.embed_images([form(i) for i in images]), expected)


def test_pixels_of_any_size_are_taken(predictor: Predictor) -> None:
    pixels = np.zeros((70, 45, 3), np.uint8)
    assert predictor.embed_images([pixels]).shape == (1, 8)


def test_rows_come_in_the_order_of_the_items(predictor: Predictor, images) -> None:
    forwards, backwards = predictor.embed_images(images), predictor.embed_images(images[::-1])
    np.testing.assert_allclose(backwards[::-1], forwards, atol=TOLERANCE)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batch_size_changes_nothing(
    bundle: Path, predictor: Predictor, images, batch_size: int
) -> None:
    small = Predictor(bundle, batch_size=batch_size)
    texts = ["a star", "a large red circle left of a small blue square", "", "a circle", "a ring"]
    np.testing.assert_allclose(
        small.embed_images(images), predictor.embed_images(images), atol=TOLERANCE
    )
    np.testing.assert_allclose(
        small.embed_texts(texts), predictor.embed_texts(texts), atol=TOLERANCE
    )


def test_text_beyond_the_length_of_the_model_is_cut(predictor: Predictor) -> None:
    long, longer = ("red circle " * number for number in (100, 300))
    np.testing.assert_array_equal(predictor.embed_texts([long]), predictor.embed_texts([longer]))


def test_folder_without_a_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no bundle: it has no bundle.json; run tools/export"):
        Predictor(tmp_path)


def test_batch_size_below_one_is_told(bundle: Path) -> None:
    with pytest.raises(UserError, match="batch_size is 0; give at least 1"):
        Predictor(bundle, batch_size=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "bundle.json").write_text("{"), "is damaged: not JSON; run"),
        (lambda folder: set_version(folder, 99), "is of format 99, but this program reads 2; run"),
        (lambda folder: (folder / "embed_texts.pdiparams").unlink(), "lacks embed_texts.pdiparams"),
        (lambda folder: (folder / "settings.yaml").unlink(), "lacks settings.yaml"),
    ],
    ids=["damaged", "another version", "no weights", "no settings"],
)
def test_bundle_that_is_not_whole_is_told(bundle: Path, tmp_path: Path, change, message) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    change(folder)
    with pytest.raises(UserError, match=message) as raised:
        Predictor(folder)
    assert "\n" not in str(raised.value)


def set_version(folder: Path, version: int) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"version": version}))


PIXELS = np.zeros((32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "items", "message"),
    [
        ("embed_images", [], r"embed_images needs a list of at least one item, not \[\]"),
        ("embed_texts", [], r"embed_texts needs a list of at least one item, not \[\]"),
        ("embed_images", "a.png", "embed_images needs a list of .*, not 'a.png'"),
        ("embed_images", Path("a.png"), "embed_images needs a list"),
        ("embed_texts", "a red circle", "embed_texts needs a list of .*, not 'a red circle'"),
        ("embed_images", PIXELS, r"\[32, 3\] uint8 is no path and no pixels"),
        ("embed_images", [PIXELS[:, :, 0]], r"\[32, 32\] uint8 is no path and no pixels"),
        ("embed_images", [PIXELS / np.float32(255)], r"\[32, 32, 3\] float32 is no path"),
        ("embed_images", [PIXELS[:0]], r"\[0, 32, 3\] uint8 is no path and no pixels"),
        ("embed_images", [PIXELS, 3], "3 is no path and no pixels"),
        ("embed_texts", ["a red circle", None], "None is no text"),
        ("embed_images", ["nowhere.png"], "nowhere.png: cannot be read: No such file"),
    ],
)
def test_wrong_items_are_told_in_one_line(predictor: Predictor, name, items, message) -> None:
    with pytest.raises(UserError, match=message) as raised:
        getattr(predictor, name)(items)
    assert "\n" not in str(raised.value)


def test_truncated_image_is_named(predictor: Predictor, images, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(images[0].read_bytes()[:100])
    with pytest.raises(UserError, match=r"cut.png: .*truncated.*; remove or replace it"):
        predictor.embed_images([images[1], path])
