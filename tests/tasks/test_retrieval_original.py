"""Retrieval against the original: its files, its batches, its numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import static

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.loader import Loader
from unimo_paddle.data.sweep import sweep
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.retrieval import RetrievalConfig, RetrievalDataConfig, RetrievalTask

FORWARD_TOLERANCE = 1e-5
SEGMENTS = {
    "input_ids": "src_ids",
    "position_ids": "pos_ids",
    "region_features": "image_embedding",
    "region_boxes": "image_loc",
}

pytestmark = pytest.mark.usefixtures("static_graph")


# ---- the original's files


@pytest.fixture(scope="module")
def official(shared_dir: Path) -> Path:
    return shared_dir / "reference" / "official"


def recorded(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def original_task(
    folder: Path, tmp_path: Path, *, compatibility: str = "original", **changes
) -> RetrievalTask:
    """The task as the recordings of the readers were made with."""
    inputs = folder / "reader_inputs"
    features = str(inputs / "retrieval_feats")
    data = RetrievalDataConfig(
        source="original",
        compatibility=compatibility,
        train=str(inputs / "retrieval_caps.ids"),
        splits={"test": str(inputs / "retrieval_caps.ids")},
        features={"train": features, "test": features},
        image_ids=str(inputs / "retrieval_name_id.txt"),
        image=ImageConfig(kind="regions", feature_size=8, max_regions=5),
        max_text_length=10,
    )
    model = ModelConfig(region_feature_size=8, hidden_size=8, num_layers=1, num_heads=1)
    return RetrievalConfig(data=replace(data, **changes)).build(model, tmp_path)


def real_rows(recording: dict, step: int) -> list[dict[str, np.ndarray]]:
    """Each recorded text with its image, without padding."""
    mask = recording[f"{step}/input_mask"].diagonal(axis1=1, axis2=2) > 0
    num_regions = recording[f"{step}/image_loc"].shape[1]
    rows = []
    for number, is_real in enumerate(mask):
        row = {ours: recording[f"{step}/{theirs}"][number] for ours, theirs in SEGMENTS.items()}
        for name in row:
            is_text = name in ("input_ids", "position_ids")
            kept = is_real[num_regions:] if is_text else is_real[:num_regions]
            row[name] = row[name][kept, 0] if is_text else row[name][kept]
        rows.append(row)
    return rows


def our_rows(batch: dict[str, np.ndarray], prefix: str = "") -> list[dict[str, np.ndarray]]:
    """The same of one of our batches, candidate by candidate."""
    flat = {
        name.removeprefix(prefix): value.reshape(-1, *value.shape[2:]) if prefix else value
        for name, value in batch.items()
    }
    rows = []
    for number in range(len(flat["input_ids"])):
        kept = {
            "input_ids": flat["text_mask"][number] > 0,
            "position_ids": flat["text_mask"][number] > 0,
            "region_features": flat["region_mask"][number] > 0,
            "region_boxes": flat["region_mask"][number] > 0,
        }
        rows.append({name: flat[name][number][keep] for name, keep in kept.items()})
    return rows


def assert_rows_equal(ours: list[dict], theirs: list[dict]) -> None:
    assert len(ours) == len(theirs)
    for mine, expected in zip(ours, theirs, strict=True):
        for name in expected:
            np.testing.assert_allclose(mine[name], expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("step", range(8))
def test_a_training_batch_is_that_of_the_original(official: Path, tmp_path: Path, step: int):
    recording = recorded(official, "reader_retrieval_train")
    streams = original_task(official, tmp_path).training_streams(2)
    batch = Loader(streams, seed=99, num_workers=0).batch(step)
    assert batch["candidate_input_ids"].shape[:2] == (2, 21)
    assert_rows_equal(our_rows(batch, "candidate_"), real_rows(recording, step))


def test_an_epoch_of_the_original_has_every_caption_once(official: Path, tmp_path: Path):
    (stream,) = original_task(official, tmp_path).training_streams(2)
    assert stream.epoch_size == 8
    captions = [int(stream.records[place][0]) for place in range(16)]
    assert sorted(captions[:8]) == sorted(captions[8:]) == list(range(8))


def test_the_pairs_of_a_split_are_those_of_the_original(official: Path, tmp_path: Path):
    recording = recorded(official, "reader_retrieval_test")
    theirs = [row for step in range(5) for row in real_rows(recording, step)]
    pairs = np.concatenate([recording[f"{step}/ids"] for step in range(5)])
    task = original_task(official, tmp_path)
    seen = np.empty((4, 8), object)

    def serve(name, stream):
        batches = list(sweep(stream.records, stream.encode, stream.fields, 3))
        rows = [row for batch, _ in batches for row in our_rows(batch)]
        index = np.concatenate([indices for _, indices in batches])
        images.append(rows)
        return {"score": np.zeros(len(rows)), "index": index}

    images: list[list[dict]] = []
    _, image_numbers, captions = task.score_pairs(task.read_split("test"), serve)
    ours = [row for rows in images for row in rows]
    for row, image, caption in zip(ours, image_numbers, captions, strict=True):
        seen[image, caption] = row
    assert_rows_equal([seen[image - 100, caption - 500] for image, caption in pairs], theirs)


def test_by_default_width_and_height_stand_where_they_are_said_to_be(official, tmp_path):
    task = original_task(official, tmp_path, compatibility="standard")
    train, test = (task.read_split(name).images[0].image.load() for name in ("train", "test"))
    assert (train.width, train.height) == (test.width, test.height) == (640, 480)
    swapped = original_task(
        official, tmp_path, compatibility="standard", size_columns=("height", "width")
    )
    regions = swapped.read_split("test").images[0].image.load()
    assert (regions.width, regions.height) == (480, 640)


def test_boxes_outside_their_image_are_refused_unless_the_mistake_is_repeated(official, tmp_path):
    options = {"compatibility": "standard", "size_columns": ("height", "width")}
    standard = original_task(official, tmp_path, **options)
    image = standard.read_split("test").images[0]
    with pytest.raises(BadSample, match=r"00:1: box .* lies outside the 480 x 640 image"):
        standard.encode_named(image)
    original = original_task(official, tmp_path)
    boxes = original.encode_named(original.read_split("test").images[0])["region_boxes"]
    assert boxes.max() > 1


def test_by_default_the_original_files_are_shuffled_by_the_seed(official, tmp_path):
    streams = original_task(official, tmp_path, compatibility="standard").training_streams(2)
    first, second = (Loader(streams, seed=seed).batch(0) for seed in (0, 1))
    assert first["candidate_input_ids"].tolist() != second["candidate_input_ids"].tolist()


def test_features_of_a_split_that_are_not_named_are_told(official, tmp_path):
    task = original_task(official, tmp_path, features={})
    with pytest.raises(UserError, match=r"task\.data\.features names no .* split 'train'"):
        task.read_split("train")


# ---- the original's numbers


def tiny_task(official: Path, tmp_path: Path) -> RetrievalTask:
    """The network of the recordings, without dropout."""
    original = json.loads((official / "tiny_config.json").read_text())
    model = ModelConfig(
        vocab_size=original["vocab_size"],
        hidden_size=original["hidden_size"],
        num_layers=original["num_hidden_layers"],
        num_heads=original["num_attention_heads"],
        max_positions=original["max_position_embeddings"],
        region_feature_size=original["image_embedding_size"],
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation=original["hidden_act"],
    )
    data = RetrievalDataConfig(image=ImageConfig(kind="regions", feature_size=32))
    return RetrievalConfig(data=data).build(model, tmp_path)


def recorded_fields(recording: dict) -> dict[str, np.ndarray]:
    """The recorded inputs as the fields of pairs."""
    num_regions = recording["in/image_loc"].shape[1]
    mask = recording["in/input_mask"].diagonal(axis1=1, axis2=2)
    fields = {ours: recording[f"in/{theirs}"] for ours, theirs in SEGMENTS.items()}
    for name in ("input_ids", "position_ids"):
        fields[name] = fields[name][..., 0]
    fields |= {"region_mask": mask[:, :num_regions], "text_mask": mask[:, num_regions:]}
    return {name: np.ascontiguousarray(value) for name, value in fields.items()}


def compute(task: RetrievalTask, function, feeds: dict, parameters: dict) -> tuple[dict, dict]:
    """Outputs, and gradients of ``loss`` where there is one, of a static program."""
    main, startup = static.Program(), static.Program()
    with (
        static.scope_guard(static.Scope()),
        static.program_guard(main, startup),
        paddle.utils.unique_name.guard(),
    ):
        network = task.build_network()
        shapes = {name: [-1, *value.shape[1:]] for name, value in feeds.items()}
        inputs = {
            name: static.data(name, shapes[name], str(value.dtype)) for name, value in feeds.items()
        }
        outputs = function(network, inputs)
        pairs = static.append_backward(outputs["loss"]) if "loss" in outputs else []
        executor = static.Executor(paddle.CPUPlace())
        executor.run(startup)
        for parameter in main.global_block().all_parameters():
            tensor = static.global_scope().find_var(parameter.name).get_tensor()
            tensor.set(parameters[parameter.name], paddle.CPUPlace())
        fetches = [*outputs.values(), *(gradient for _, gradient in pairs)]
        values = executor.run(main, feed=feeds, fetch_list=fetches)
    count = len(outputs)
    gradients = zip((p.name for p, _ in pairs), values[count:], strict=True)
    return dict(zip(outputs, values[:count], strict=True)), dict(gradients)


def test_loss_scores_and_accuracy_of_candidates_are_those_recorded(official, tmp_path):
    recording = recorded(official, "retrieval_train_s4")
    task = tiny_task(official, tmp_path)
    feeds = {
        f"candidate_{name}": value.reshape(-1, 4, *value.shape[1:])
        for name, value in recorded_fields(recording).items()
    }

    def function(network, batch):
        return {**task.loss(network, batch), "score": network.score_candidates(batch)}

    outputs, gradients = compute(task, function, feeds, recorded(official, "tiny_params"))
    np.testing.assert_allclose(outputs["score"], recording["out/score"], atol=FORWARD_TOLERANCE)
    np.testing.assert_allclose(outputs["loss"], recording["out/loss"][0], atol=3e-5)
    assert outputs["accuracy"] == recording["out/acc"][0]
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())
    assert {"match_fc.w_0", "image_loc.w_0", "pooled_fc_text.w_0"} <= set(gradients)


def test_scores_of_single_pairs_are_those_recorded(official, tmp_path):
    recording = recorded(official, "retrieval_dev_s1")
    task = tiny_task(official, tmp_path)
    feeds, parameters = recorded_fields(recording), recorded(official, "tiny_params")
    outputs, _ = compute(task, task.predict, feeds, parameters)
    expected = recording["out/score"][:, 0]
    np.testing.assert_allclose(outputs["score"], expected, atol=FORWARD_TOLERANCE)
    squashed = RetrievalConfig(data=task.data, use_sigmoid=True).build(task.model, tmp_path)
    outputs, _ = compute(squashed, squashed.predict, feeds, parameters)
    np.testing.assert_allclose(outputs["score"], 1 / (1 + np.exp(-expected)), atol=1e-6)
