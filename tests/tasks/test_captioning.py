"""Captions: records of all kinds, padding, learning, settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.adversarial import AdversarialConfig
from unimo_paddle.data.fields import collate
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.loader import Loader
from unimo_paddle.data.records import Fault
from unimo_paddle.data.text import SEP_ID
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.program import (
    Runner,
    build_service,
)
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig, CaptioningTask
from unimo_paddle.tasks.language import LanguageConfig
from unimo_paddle.updates import build_update

PADDING_TOLERANCE = 1e-4  # of a sum of float32 logarithms in another order
REGIONS = ImageConfig(kind="regions", max_regions=10, feature_size=32)
NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0}

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.fixture(scope="module")
def make_task(on_scenes):
    """A prepared task on the built-in scenes: ({field of the data: value}, fields) -> task."""

    def make(data: dict[str, Any] | None = None, **changes: Any) -> CaptioningTask:
        data = {"max_tags": 8, **(data or {})}
        changes = {"language": LanguageConfig(max_target_length=48), **changes}
        return on_scenes(CaptioningConfig, CaptionDataConfig, data, changes, model=NO_DROPOUT)

    return make


@pytest.fixture(scope="module")
def task(make_task) -> CaptioningTask:
    return make_task()


@pytest.fixture(scope="module")
def image(tiny_settings: dict[str, Any]) -> str:
    return str(Path(tiny_settings["task"]["data"]["scenes_dir"]) / "images" / "00000.png")


def test_every_caption_of_a_line_is_a_record(task: CaptioningTask) -> None:
    records = task.read_split("test")
    assert len(records) == 6 * 5
    assert len({record.image_id for record in records}) == 6


def test_lines_without_a_name_of_their_image_are_different_images(
    make_task, tmp_path: Path
) -> None:
    regions = {"features": [[0.0] * 192], "boxes": [[0, 0, 1, 1]], "width": 2, "height": 2}
    line = json.dumps({"regions": regions, "captions": ["a star", "a dot"]})
    path = tmp_path / "captions.jsonl"
    path.write_text(f"{line}\n{line}\n", "utf-8")
    task = make_task({"with_tags": False})
    task.data = replace(task.data, source="files", image=replace(REGIONS, feature_size=192))
    ids = [record.image_id for record in task.read(path)]
    assert ids == ["image 0", "image 0", "image 1", "image 1"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({}, "image"),
        ({"image_id": 391895}, "391895"),
        ({"image_id": 0}, "0"),
        ({"image_id": 391895, "id": 7}, "7"),
    ],
)
def test_an_image_has_the_name_that_its_line_gives_it(
    task: CaptioningTask, image: str, names: dict, expected: str
) -> None:
    expected = image if expected == "image" else expected
    assert task.parse({"image": image} | names).image_id == expected


def test_a_name_of_an_image_that_is_none_is_refused(task: CaptioningTask, image: str) -> None:
    with pytest.raises(Fault, match="'image_id' must be text or a whole number, not"):
        task.parse({"image": image, "image_id": ["a"]})


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.zeros((8, 8, 3), np.float32), r"\[8, 8, 3\] float32"),
        (np.zeros((8, 8), np.uint8), r"\[8, 8\] uint8"),
        (np.zeros((8, 8, 4), np.uint8), r"\[8, 8, 4\] uint8"),
        (np.zeros((0, 8, 3), np.uint8), r"\[0, 8, 3\] uint8"),
    ],
)
def test_an_array_that_is_no_pixels_is_refused(task: CaptioningTask, pixels, found: str) -> None:
    with pytest.raises(Fault, match=rf"'image' is {found}; give pixels \[H, W, 3\] uint8 RGB"):
        task.parse({"image": pixels})


def test_names_of_objects_are_encoded_as_a_text(task: CaptioningTask, image: str) -> None:
    record = task.parse({"image": image, "caption": "a star", "tags": ["red star", "ground"]})
    expected = [0, *task.tokenizer.encode("red star ground"), SEP_ID][:8]
    assert task.encode(record)["tag_ids"].tolist() == expected


def test_names_of_too_many_objects_lose_their_end(task: CaptioningTask, image: str) -> None:
    record = task.parse({"image": image, "caption": "a star", "tags": ["square"] * 20})
    ids = task.encode(record)["tag_ids"].tolist()
    assert len(ids) == 8 and ids[-1] != SEP_ID


def test_caption_that_is_too_long_keeps_its_end_token(task: CaptioningTask, image: str) -> None:
    record = task.parse({"image": image, "caption": "a star " * 60})
    sample = task.encode(record)
    assert len(sample["input_ids"]) == 48 and sample["input_ids"][-1] == SEP_ID
    assert len(sample["target_ids"]) == 47 and sample["target_ids"][-1] == SEP_ID


def test_image_without_a_caption_can_be_encoded(task: CaptioningTask, image: str) -> None:
    record = task.parse({"image": image})
    assert not task.is_labelled(record)
    assert task.encode(record)["input_ids"].tolist() == [0, SEP_ID]


def test_several_captions_of_one_item_are_refused(task: CaptioningTask, image: str) -> None:
    with pytest.raises(Fault, match="one item for each"):
        task.parse({"image": image, "captions": ["a star", "a dot"]})


@pytest.mark.parametrize("with_tags", [False, True])
def test_padding_is_invisible(make_task, image: str, with_tags: bool) -> None:
    task = make_task({"with_tags": with_tags})
    item = {"image": image, "caption": "a red star", "tags": ["star"]}
    sample, runner = task.encode(task.parse(item)), Runner()
    program = build_service(task, task.services[0])
    runner.start(program)
    alone, padded = (
        runner.run(program, collate([sample], task.inputs, multiple_of=size)) for size in (1, 40)
    )
    np.testing.assert_allclose(
        padded["log_likelihood"], alone["log_likelihood"], rtol=PADDING_TOLERANCE
    )
    assert padded["num_tokens"] == alone["num_tokens"] == len(sample["target_ids"])


@pytest.fixture
def serve(task: CaptioningTask):
    """Serve with random weights, and count the records of each service in ``asked``."""
    runner = Runner()
    programs = {service.name: build_service(task, service) for service in task.services}
    for program in programs.values():
        runner.start(program)
    asked: dict[str, int] = {}

    def serve(name: str, stream: Any) -> dict[str, np.ndarray]:
        asked[name] = len(stream.records)
        samples = [stream.encode(record, None) for record in stream.records]
        batch = collate(samples, stream.fields)
        return runner.run(programs[name], batch) | {"index": np.arange(len(samples))}

    serve.asked = asked
    return serve


def test_predictions_name_their_images(task: CaptioningTask, serve) -> None:
    records, predictions = task.read_split("test"), task.predictions("test", serve)
    assert [x["image_id"] for x in predictions] == [record.image_id for record in records]
    texts = {(x["image_id"], x["text"], x["score"]) for x in predictions}
    assert len(texts) == len({x["image_id"] for x in predictions})
    assert serve.asked == {"predict": len(records), "generate": len(texts)}


def test_a_text_is_measured_beside_all_captions_of_its_image(task: CaptioningTask, serve) -> None:
    metrics = task.score("test", serve)
    records = task.read_split("test")
    images = {record.image_id for record in records}
    assert metrics["nats_per_token"] > 0 and 0 <= metrics["bleu_4"] <= metrics["bleu_1"] <= 1
    assert metrics["written_texts"] == len(images) < len(records)
    assert metrics["true_captions"] == 0.0  # of random weights
    references = task.references(records)
    assert sum(map(len, references.values())) == len(records)
    assert [records[index].image_id for index in references] == list(
        dict.fromkeys(record.image_id for record in records)
    )


def test_an_image_without_captions_leaves_the_others_measured(make_task, serve) -> None:
    task = make_task()
    records = task.read_split("test")
    bare = replace(records[0], image_id="bare", caption=None)
    task._splits["test"] = [bare, *records[1:]]
    metrics = task.score("test", serve)
    assert metrics["nats_per_token"] > 0
    assert metrics["written_texts"] == len({record.image_id for record in records})


def test_captions_are_drawn_below_their_images(task: CaptioningTask, serve) -> None:
    pictures = task.pictures("test", serve)
    assert pictures["captions"].shape[2] == 3
    assert serve.asked == {"generate": min(8, len({x.image_id for x in task.read_split("test")}))}


ADVERSARIAL = [
    AdversarialConfig(),
    AdversarialConfig(steps=2),
    AdversarialConfig(steps=1, sides="image", norm="infinity", with_clean=False),
]


@pytest.mark.parametrize("adversarial", ADVERSARIAL, ids=["plain", "both", "image"])
def test_updates_lower_the_loss(make_task, adversarial: AdversarialConfig) -> None:
    task = make_task({"with_tags": False}, adversarial=adversarial)
    (stream,) = task.training_streams(16)
    optimizer = build_optimizer(OptimizerConfig(learning_rate=3e-3, schedule="constant"), 40)
    update = build_update(task, 16, stream.fields, optimizer, seed=0, num_passes=1)
    runner = Runner()
    update.start(runner)
    batches = Loader([stream], seed=0).batches(0, 40)
    losses = []
    for step in range(40):
        losses.append(float(update.run(runner, batches, step)["loss"]))
        optimizer.schedule.step(step + 1)
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tags": 0}, "max_tags is 0; give at least 1"),
        ({"objects": "objects.ids"}, "objects needs task.data.source original"),
        ({"file_list_root": "files"}, "file_list_root has no effect on task.data.source files"),
        ({"source": "scenes", "train": "a.jsonl"}, "train and splits have no effect on .* scenes"),
        ({"source": "scenes", "splits": {"a": "b"}}, "train and splits have no effect on"),
    ],
)
def test_wrong_setting_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CaptionDataConfig(**changes)


def test_captions_longer_than_the_positions_are_refused(tiny_settings, tmp_path: Path) -> None:
    config = CaptioningConfig(
        data=CaptionDataConfig(image=ImageConfig(image_size=32, patch_size=8), max_tags=8),
        language=LanguageConfig(max_target_length=65),
    )
    with pytest.raises(UserError, match=r"max_target_length is 65.*holds texts of 64 tokens"):
        CaptioningTask(config, ModelConfig(**tiny_settings["model"]), tmp_path)
