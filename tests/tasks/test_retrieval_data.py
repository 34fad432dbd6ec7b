"""Retrieval: tables of images and captions, candidates, negatives at random and hard ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.data.fields import collate
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.retrieval import RetrievalConfig, RetrievalDataConfig, RetrievalTask

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.fixture(scope="module")
def make_task(on_scenes):
    """Tasks on the tiny scenes, prepared: (fields of the config) -> task."""

    def make(**changes: Any) -> RetrievalTask:
        changes = {"negatives": 2, **changes}
        return on_scenes(RetrievalConfig, RetrievalDataConfig, {}, changes, model={})

    return make


@pytest.fixture(scope="module")
def task(make_task) -> RetrievalTask:
    return make_task()


# ---- scenes


def test_every_caption_of_the_scenes_is_a_record(task: RetrievalTask):
    table = task.read_split("train")
    assert (len(table.images), len(table)) == (24, 24 * 5)
    assert table[7].image == table.images[1]


def test_lines_of_one_image_become_one_image(task: RetrievalTask, tmp_path, scenes_dir):
    lines = [
        {"image": "a.png", "captions": ["one", "two"]},
        {"image": "b.png", "captions": ["three"]},
        {"image": "a.png", "captions": ["four"]},
    ]
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(next((scenes_dir / "images").glob("*.png")).read_bytes())
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = task.read(path)
    assert table.captions == ["one", "two", "four", "three"]
    assert table.owners.tolist() == [0, 0, 0, 1]


def test_a_file_of_one_image_is_refused(task: RetrievalTask, tmp_path, scenes_dir):
    (tmp_path / "a.png").write_bytes(next((scenes_dir / "images").glob("*.png")).read_bytes())
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"image": "a.png", "captions": ["one", "two"]}) + "\n")
    with pytest.raises(UserError, match=r"pairs\.jsonl has captions of a single image"):
        task.read(path)


REGIONS = {
    "features": [[1.0, 2.0], [3.0, 6.0]],
    "boxes": [[0, 0, 2, 2], [1, 1, 4, 4]],
    "width": 4,
    "height": 4,
}


def regions_task(tmp_path: Path, lines: list[dict]) -> RetrievalTask:
    for line in lines:
        (tmp_path / line["image"]).write_bytes(b"")
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    image = ImageConfig(kind="regions", feature_size=2)
    data = RetrievalDataConfig(train=str(path), image=image)
    return RetrievalConfig(data=data).build(ModelConfig(region_feature_size=2), tmp_path)


def test_lines_may_hold_regions(tmp_path: Path):
    lines = [
        {"image": name, "captions": ["words"], "regions": REGIONS} for name in ("a.png", "b.png")
    ]
    task = regions_task(tmp_path, lines)
    image = task.read_split("train").images[1]
    assert task.encode_named(image)["region_features"].tolist() == [[2, 4], [1, 2], [3, 6]]
    item = {"regions": REGIONS, "text": "words"}
    assert task.encode_named(task.parse(item).image)["region_boxes"].shape == (3, 5)


def test_bad_regions_are_told_under_the_name_of_their_image(tmp_path: Path):
    outside = {**REGIONS, "boxes": [[0, 0, 2, 2], [1, 1, 9, 4]]}
    lines = [
        {"image": name, "captions": ["words"], "regions": outside} for name in ("a.png", "b.png")
    ]
    task = regions_task(tmp_path, lines)
    with pytest.raises(BadSample, match=r"a\.png: box 1 .* lies outside"):
        task.encode_named(task.read_split("train").images[0])


def test_a_line_without_regions_is_told(tmp_path: Path):
    task = regions_task(tmp_path, [{"image": "a.png", "captions": ["words"]}])
    with pytest.raises(UserError, match=r"a\.png has no regions; give them, or use"):
        task.read_split("train")


def test_candidates_are_the_pair_then_images_then_captions(task: RetrievalTask):
    table = task.read_split("test")
    numbers = np.array([3, 4, 5, 20, 12])  # caption 3 of image 0
    sample = task.encode_candidates(table, numbers)
    batch = collate([sample], task.candidates)
    pairs = [(0, 3), (4, 3), (5, 3), (0, 20), (0, 12)]  # image, caption
    for place, (image, caption) in enumerate(pairs):
        expected = collate(
            [task.encode_named(table.images[image]) | task.encode_text(table.captions[caption])],
            task.inputs,
        )
        ids = batch["candidate_input_ids"][0, place]
        length = expected["input_ids"].shape[1]
        assert ids[:length].tolist() == expected["input_ids"][0].tolist()
        assert (ids[length:] == 1).all()
        features = batch["candidate_region_features"][0, place]
        np.testing.assert_array_equal(features, expected["region_features"][0])


@pytest.mark.parametrize("seed", range(5))
def test_negatives_have_other_images_and_other_words(make_task, seed: int):
    task = make_task(negatives=6)
    table = task.read_split("train")
    negatives = task._negatives(table)
    caption = int(np.random.default_rng(seed).integers(len(table)))
    numbers = negatives.draw(caption, np.random.default_rng(seed))
    own, images, captions = table.owners[caption], numbers[1:7], numbers[7:]
    of_own = {table.captions[number] for number in table.captions_of[own]}
    assert own not in images
    assert len(set(images)) == len(set(captions)) == 6
    assert not {table.captions[number] for number in captions} & of_own
    said = [{table.captions[number] for number in table.captions_of[image]} for image in images]
    assert not any(table.captions[caption] in texts for texts in said)


def test_fewer_others_than_asked_for_are_repeated(make_task):
    task = make_task(negatives=8)
    table = task.read_split("test")  # six images
    images = task._negatives(table).draw(0, np.random.default_rng(0))[1:9].tolist()
    assert set(images) == {1, 2, 3, 4, 5}
    assert max(map(images.count, images)) == 2


def test_an_image_is_not_mirrored_against_a_caption_it_meets(task: RetrievalTask, monkeypatch):
    met = []
    plain = RetrievalTask.encode_named

    def watch(self, named, rng=None, texts=()):
        met.append((named.name, list(texts)))
        return plain(self, named, rng, texts)

    monkeypatch.setattr(RetrievalTask, "encode_named", watch)
    table = task.read_split("test")
    task.encode_candidates(table, np.array([3, 4, 5, 20, 12]), np.random.default_rng(0))
    captions = table.captions
    assert met == [
        (table.images[0].name, [captions[3], captions[20], captions[12]]),
        (table.images[4].name, [captions[3]]),
        (table.images[5].name, [captions[3]]),
    ]


def test_training_samples_depend_on_the_generator_alone(task: RetrievalTask):
    (stream,) = task.training_streams(2)
    first, again, other = (stream.encode(5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all((first[name] == again[name]).all() for name in first)
    assert first["candidate_region_features"].tolist() != (
        other["candidate_region_features"].tolist()
    )


# ---- hard negatives


@pytest.fixture
def mined(task: RetrievalTask, tmp_path: Path) -> Path:
    """Features by which image n is nearest to the captions of image n + 1."""
    table = task.read_split("train")
    angles = 2 * np.pi * np.arange(len(table.images)) / len(table.images)
    images = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    step = 2 * np.pi / len(table.images)
    texts = np.stack([np.cos(angles - step), np.sin(angles - step)], axis=1)[table.owners]
    np.savez(tmp_path / "mined.npz", image_features=3 * images, text_features=texts)
    return tmp_path / "mined.npz"


def test_mined_negatives_are_the_nearest(make_task, mined: Path):
    task = make_task(negatives=1, mining="separate", mined=str(mined), mining_pool=1)
    table = task.read_split("train")
    caption = int(table.captions_of[7][0])
    _, image, other = task._negatives(table).draw(caption, np.random.default_rng(0))
    assert image == 6
    assert table.owners[other] == 8


def test_mined_negatives_are_drawn_from_the_pool(make_task, mined: Path):
    task = make_task(negatives=2, mining="separate", mined=str(mined), mining_pool=4)
    table = task.read_split("train")
    negatives = task._negatives(table)
    caption = int(table.captions_of[7][0])
    drawn = [negatives.draw(caption, np.random.default_rng(seed)) for seed in range(30)]
    assert {image for numbers in drawn for image in numbers[1:3].tolist()} <= {4, 5, 6, 8, 9}
    assert all(numbers[1] != numbers[2] for numbers in drawn)
    assert len({tuple(numbers) for numbers in drawn}) > 5


def test_mined_negatives_have_other_words(make_task, mined: Path):
    task = make_task(negatives=2, mining="separate", mined=str(mined), mining_pool=1000)
    table = task.read_split("train")
    negatives = task._negatives(table)
    for caption in range(0, len(table), 7):
        own = int(table.owners[caption])
        assert not set(negatives.images[caption].tolist()) & table.images_with(caption)
        assert not set(negatives.captions[own].tolist()) & table.captions_on(own)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image_features": np.ones((24, 2))}, "holds no array text_features"),
        (
            {"image_features": np.ones((23, 2)), "text_features": np.ones((120, 2))},
            r"image_features has shape \[23, 2\]; .*train.jsonl has 24",
        ),
        (
            {"image_features": np.ones((24, 2)), "text_features": np.ones((120, 3))},
            r"text_features has shape \[120, 3\]",
        ),
        (
            {"image_features": np.full((24, 2), np.nan), "text_features": np.ones((120, 2))},
            "image_features holds what is no finite number",
        ),
    ],
)
def test_features_that_do_not_fit_are_told(make_task, tmp_path, arrays, message):
    np.savez(tmp_path / "mined.npz", **arrays)
    task = make_task(mining="separate", mined=str(tmp_path / "mined.npz"))
    with pytest.raises(UserError, match=message):
        task.training_streams(2)


def write_one_array(path):
    with path.open("wb") as file:
        np.save(file, np.ones((24, 2)))


@pytest.mark.parametrize(
    "write", [lambda path: path.write_bytes(b"no zip"), Path.touch, write_one_array]
)
def test_a_file_that_holds_no_features_is_told(make_task, tmp_path, write):
    write(tmp_path / "mined.npz")
    task = make_task(mining="separate", mined=str(tmp_path / "mined.npz"))
    with pytest.raises(UserError, match=r"mined.npz is no readable .npz file"):
        task.training_streams(2)
