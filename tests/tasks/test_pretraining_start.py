"""Layers that start from training images and captions, with a dictionary of patches."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import merge
from tests.tasks.contract_cases import CASES
from unimo_paddle.checkpoint import latest_checkpoint, load_checkpoint
from unimo_paddle.config import RunConfig, build_trainer, load_evaluator
from unimo_paddle.data.correlation import correlated_projections
from unimo_paddle.data.loader import Stream
from unimo_paddle.errors import UserError
from unimo_paddle.evaluation import Evaluator
from unimo_paddle.process import PROGRESS_VARIABLE
from unimo_paddle.settings import load
from unimo_paddle.tasks import pretraining_start
from unimo_paddle.tasks.pretraining_data import PretrainingEncoder
from unimo_paddle.tasks.pretraining_start import DataStart
from unimo_paddle.trainer import Trainer

pytestmark = pytest.mark.usefixtures("static_graph")

DICTIONARY = {
    "model.patch_grid": 4,
    "model.patch_edge_size": 2,
    "model.patch_dictionary": 16,
    "task.pooling": "mean",
    "task.data.image.flip": False,
    "train.max_steps": 2,
}


@pytest.fixture
def make_trainer(write_run_file, tmp_path: Path):
    def make(name: str, changes: dict[str, Any]) -> Trainer:
        path = write_run_file(tmp_path / f"{name}.yaml", {**DICTIONARY, **changes})
        config = load(RunConfig, path)
        return build_trainer(replace(config, output_dir=str(tmp_path / name)))

    return make


def test_a_launcher_looks_for_no_hang_before_the_first_update(
    make_trainer, monkeypatch, tmp_path: Path
) -> None:
    progress = tmp_path / "progress"
    monkeypatch.setenv(PROGRESS_VARIABLE, str(progress))
    trainer = make_trainer("run", {"evaluation.splits": []})
    assert not progress.exists()
    trainer.train()
    assert progress.exists()


def mean_rank(trainer: Trainer) -> float:
    """How many other training images a caption fits better than its own, in the mean."""
    records = trainer.task.encoder.read_pairs()
    serve, encoder = trainer.evaluator.serve, trainer.task.encoder
    images = serve("embed_images", encoder.image_stream(records))["image_features"]
    texts = serve("embed_texts", encoder.caption_stream(records))["text_features"]
    owners = np.repeat(np.arange(len(records)), [len(record.captions) for record in records])
    scores = texts @ images.T
    return float((scores > scores[np.arange(len(owners)), owners][:, None]).sum(axis=1).mean())


def dictionary_of(trainer: Trainer) -> dict[str, np.ndarray]:
    names = trainer.update.kept_names
    assert len(names) == 6 and all(name.startswith("patch_dictionary") for name in names)
    return {name: trainer.runner.value(name) for name in names}


def test_layers_that_start_from_the_data_match_images_and_captions(make_trainer) -> None:
    plain = make_trainer("plain", {})
    started = make_trainer("started", {"task.correlated_start": 24})
    assert mean_rank(started) < 0.5 * mean_rank(plain)


@pytest.mark.slow
def test_patches_that_are_read_alone_start_from_the_data_too(make_trainer) -> None:
    alone = {"model.patch_grid": 1}
    plain = make_trainer("plain", alone)
    started = make_trainer("started", {**alone, "task.correlated_start": 24})
    assert mean_rank(started) < 0.5 * mean_rank(plain)


@pytest.mark.parametrize("hidden_size", [32, pytest.param(30, marks=pytest.mark.slow)])
def test_joint_scores_start_as_the_product_of_correlated_projections(
    make_trainer, candidates, hidden_size: int
) -> None:
    joint = {
        "task.contrast.rewrites_per_pair": 1,
        "task.data.rewrites": str(candidates["rewrites"]),
    }
    sizes = {"model.hidden_size": hidden_size, "model.num_heads": 2}
    trainer = make_trainer("run", {**joint, **sizes, "task.correlated_start": 24})
    serve, encoder = trainer.evaluator.serve, trainer.task.encoder
    records = encoder.read_pairs()
    actual = serve("score_pairs", encoder.joint_stream(records))["scores"]

    images = serve("pool_images", encoder.image_stream(records))["rows"]
    texts = serve("pool_texts", encoder.caption_stream(records))["rows"]
    counts = [len(record.captions) for record in records]
    first = np.cumsum([0, *counts[:-1]])  # the caption that stands beside the image
    image, text = correlated_projections(
        np.repeat(images, counts, axis=0), texts, hidden_size // 4, power=1.0, scales_columns=False
    )
    images, texts = images @ image.weight + image.bias, texts @ text.weight + text.bias
    every = np.repeat(images, counts, axis=0) @ texts.T  # all images with all captions
    expected = (images * texts[first]).sum(axis=1) / np.sqrt((every**2).mean())
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    assert expected.mean() > 1.0  # what belongs together lies above the spread of all the rest


@pytest.mark.parametrize("chunk_size", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_no_update_changes_a_dictionary_and_checkpoints_keep_it(make_trainer, chunk_size) -> None:
    trainer = make_trainer("run", {"task.contrastive_chunk_size": chunk_size})
    found = dictionary_of(trainer)
    assert not set(found) & set(trainer.update.parameter_names)
    trainer.train()
    saved = load_checkpoint(latest_checkpoint(trainer.output_dir / "checkpoints")).arrays
    evaluator = load_evaluator(trainer.output_dir)
    for name, value in found.items():
        np.testing.assert_array_equal(trainer.runner.value(name), value, err_msg=name)
        np.testing.assert_array_equal(saved[name], value, err_msg=name)
        np.testing.assert_array_equal(evaluator.runner.value(name), value, err_msg=name)


@pytest.mark.parametrize("num_batches", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_dictionary_is_found_in_a_few_images_at_a_time(
    make_trainer, monkeypatch, num_batches: int
) -> None:
    counts: list[int] = []
    image_stream, serve = PretrainingEncoder.image_stream, Evaluator.serve

    def of_small_batches(encoder: PretrainingEncoder, records) -> Stream:
        return replace(image_stream(encoder, records), batch_size=4)

    def count(evaluator: Evaluator, name: str, stream: Stream, **options: Any):
        if name == "describe_patches":
            counts.append(len(stream.records))
        return serve(evaluator, name, stream, **options)

    monkeypatch.setattr(PretrainingEncoder, "image_stream", of_small_batches)
    monkeypatch.setattr(Evaluator, "serve", count)
    monkeypatch.setattr(pretraining_start, "GROUP_BATCHES", 1000)
    whole = dictionary_of(make_trainer("whole", {}))
    monkeypatch.setattr(pretraining_start, "GROUP_BATCHES", num_batches)
    grouped = dictionary_of(make_trainer("grouped", {}))
    assert counts == [24] + [4 * num_batches] * (6 // num_batches)
    for name, value in whole.items():
        np.testing.assert_array_equal(grouped[name], value, err_msg=name)


def refuse(start: DataStart) -> None:
    raise AssertionError("made in vain")


@pytest.mark.slow
def test_what_a_checkpoint_gives_is_kept_and_not_made_anew(
    make_trainer, monkeypatch, caplog
) -> None:
    first = make_trainer("first", {})
    first.train()
    for name in ("dictionary", "layers", "projections"):
        monkeypatch.setattr(DataStart, name, refuse)
    other = {"train.start_from": str(first.output_dir), "seed": 8, "task.correlated_start": 24}
    with caplog.at_level("INFO", "unimo_paddle"):
        started = make_trainer("started", other)
    told = re.findall("the (.*) are given, and not made from the data", caplog.text)
    assert [part.split()[0] for part in told] == ["entries", "layers", "projections"]
    for name, value in dictionary_of(first).items():
        np.testing.assert_array_equal(started.runner.value(name), value, err_msg=name)
    kept = load_checkpoint(latest_checkpoint(first.output_dir / "checkpoints")).arrays
    for name in started.update.parameter_names:
        np.testing.assert_array_equal(started.runner.value(name), kept[name], err_msg=name)


@pytest.mark.slow
def test_the_start_is_the_same_every_time(make_trainer) -> None:
    changes = {"task.correlated_start": 24}
    first, second = (make_trainer(name, changes) for name in ("a", "b"))
    for name in (*first.update.parameter_names, *first.update.kept_names):
        np.testing.assert_array_equal(first.runner.value(name), second.runner.value(name), name)


def test_too_large_a_dictionary_is_refused_in_one_line(make_trainer) -> None:
    with pytest.raises(UserError, match=r"than the 4096 entries of model\.patch_dict"):
        make_trainer("run", {"model.patch_dictionary": 4096})


def test_rows_that_are_no_patches_have_no_dictionary(make_trainer) -> None:
    objects = {"model.patch_grid": 1, "task.data.image.kind": "objects"}
    with pytest.raises(UserError, match=r"tells patches, but task\.data\.image\.kind is objects"):
        make_trainer("run", objects)


@pytest.mark.slow
def test_fine_tuning_needs_the_dictionary_of_a_pre_trained_run(
    make_trainer, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    pretrained = make_trainer("pretrained", {})
    pretrained.train()
    settings = CASES["retrieval"].settings(merge(tiny_settings, DICTIONARY), tmp_path)

    def build(name: str, changes: dict[str, Any]) -> Trainer:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(merge(settings, changes)), "utf-8")
        return build_trainer(replace(load(RunConfig, path), output_dir=str(tmp_path / name)))

    with pytest.raises(UserError, match="found by pre-training alone; name a pre-trained run in"):
        build("alone", {})
    tuned = build("tuned", {"train.start_from": str(pretrained.output_dir)})
    for name, value in dictionary_of(pretrained).items():
        np.testing.assert_array_equal(tuned.runner.value(name), value, err_msg=name)
