"""Retrieval: learning, recall of all pairs, scores for users, settings."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from unimo_paddle.data.fields import collate
from unimo_paddle.data.loader import Loader
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.evaluation import EvaluationConfig, Evaluator
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.program import Runner, build_service, build_training
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


# ---- learning and measuring


@pytest.fixture(scope="module")
def trained(task: RetrievalTask) -> tuple[list[float], Runner]:
    """The losses of 40 updates, and the runner that holds the weights."""
    streams = task.training_streams(6)
    config = OptimizerConfig(learning_rate=1e-2, schedule="constant", warmup_steps=0)
    program = build_training(task, task.candidates, build_optimizer(config, 40), seed=0)
    runner = Runner()
    paddle.seed(0)
    runner.start(program)
    batches = Loader(streams, seed=0).batches(0, 40)
    return [float(runner.run(program, batch)["loss"]) for batch in batches], runner


def test_forty_updates_lower_the_loss(trained):
    values, _ = trained
    assert np.mean(values[-10:]) < np.mean(values[:10]) - 0.1


@pytest.fixture
def evaluator(task: RetrievalTask, trained) -> Evaluator:
    return Evaluator(task, trained[1], EvaluationConfig(batch_size=4), seed=0)


def test_recall_is_that_of_the_full_matrix_of_scores(task, evaluator, trained):
    table = task.read_split("test")
    program = build_service(task, task.services[0])
    scores = np.empty((len(table.images), len(table)))
    for image, named in enumerate(table.images):
        for caption, text in enumerate(table.captions):
            sample = task.encode_named(named) | task.encode_text(text)
            outputs = trained[1].run(program, collate([sample], task.inputs))
            scores[image, caption] = outputs["score"][0]
    found, images, captions = task.score_pairs(table, evaluator.serve)
    np.testing.assert_allclose(found, scores[images, captions], atol=1e-5)
    assert len(set(zip(images, captions, strict=True))) == scores.size
    right = scores[table.owners, np.arange(len(table))]
    rank = (scores > right).sum(axis=0)
    metrics = task.score("test", evaluator.serve)
    assert metrics["image_retrieval_recall@1"] == pytest.approx((rank < 1).mean())
    assert {"text_retrieval_recall@10", "text_retrieval_recall@1_low"} <= set(metrics)


def test_losses_of_a_split_are_measured(evaluator):
    metrics = evaluator.measure("test")
    assert np.isfinite(metrics["loss/loss"])
    assert 0.0 <= metrics["loss/accuracy"] <= 1.0


def test_a_share_of_the_images_may_be_measured(make_task, evaluator):
    served = []

    def serve(name, stream):
        served.append(len(stream.records))
        return evaluator.serve(name, stream)

    make_task(evaluated_images=3).score("test", serve)
    assert served == [15, 15, 15]


def test_an_image_that_cannot_be_used_ranks_last(task, evaluator, monkeypatch, caplog):
    table = task.read_split("test")
    plain = RetrievalTask.encode_named

    def fail(self, named, *arguments):
        if named.name == table.images[2].name:
            raise BadSample(named.name, "truncated")
        return plain(self, named, *arguments)

    monkeypatch.setattr(RetrievalTask, "encode_named", fail)
    _, images, _ = task.score_pairs(table, evaluator.serve)
    assert set(images) == {0, 1, 3, 4, 5}
    assert "truncated" in caplog.text


def test_a_split_without_any_usable_image_is_refused(task, evaluator, monkeypatch):
    def fail(self, named, *arguments):
        raise BadSample(named.name, "truncated")

    monkeypatch.setattr(RetrievalTask, "encode_named", fail)
    with pytest.raises(UserError, match=r"6 of 6 images of .* cannot be used"):
        task.score_pairs(task.read_split("test"), evaluator.serve)


def test_a_user_gets_a_score_for_an_image_and_a_text(task, evaluator):
    pair = task.read_split("test")[8]
    item = {"image": str(pair.image.image), "text": pair.text}
    sample = task.encode(task.parse(item))
    assert set(sample) == {field.name for field in task.services[0].inputs}
    outputs = trained_scores(evaluator, sample)
    (prediction,) = task.decode(outputs)
    assert prediction == {
        "score": pytest.approx(task.predictions("test", evaluator.serve)[8]["score"])
    }


def trained_scores(evaluator: Evaluator, sample: dict) -> dict[str, np.ndarray]:
    program = build_service(evaluator.task, evaluator.task.services[0])
    return evaluator.runner.run(program, collate([sample], evaluator.task.inputs))


@pytest.mark.parametrize(
    ("item", "message"),
    [({"text": "a"}, "'image' is missing"), ({"image": "x"}, "no such image")],
)
def test_what_a_user_forgets_is_told(task, item, message):
    with pytest.raises((Fault, BadSample), match=message):
        task.parse(item)


# ---- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negatives": 0}, "task.negatives is 0"),
        ({"mining_pool": 0}, "task.mining_pool is 0"),
        ({"mining": "hard"}, "task.mining is 'hard'; choose one of random, separate"),
        ({"mining": "separate"}, "task.mining is separate and task.mined is None"),
        ({"mined": "a.npz"}, "task.mining is random and task.mined is a.npz"),
        ({"margin": 1.5}, "task.margin is 1.5"),
        ({"scale": 0.0}, "task.scale is 0.0"),
        ({"head_dropout": 1.0}, "task.head_dropout is 1.0"),
        ({"evaluated_images": 1}, "task.evaluated_images is 1"),
        (
            {
                "mining": "separate",
                "mined": "a.npz",
                "data": RetrievalDataConfig(compatibility="original"),
            },
            "the original draws at random",
        ),
    ],
)
def test_a_setting_without_sense_is_told(settings, message):
    with pytest.raises(UserError, match=message):
        RetrievalConfig(**settings)


def test_captions_longer_than_the_positions_are_refused(make_task, tmp_path: Path):
    task = make_task()
    config = replace(task.config, data=replace(task.data, max_text_length=65))
    with pytest.raises(UserError, match=r"max_text_length is 65.*holds texts of 64 tokens"):
        RetrievalTask(config, task.model, tmp_path)


@pytest.mark.parametrize("columns", [("width", "width"), ("height", "depth")])
def test_size_columns_are_width_and_height(columns):
    with pytest.raises(UserError, match=r"task\.data\.size_columns"):
        RetrievalDataConfig(size_columns=columns)


@pytest.mark.parametrize(
    "settings",
    [
        {"features": {"train": "features"}},
        {"image_ids": "ids.txt"},
        {"size_columns": ("height", "width")},
    ],
)
def test_settings_of_the_originals_files_have_no_effect_on_others(settings):
    with pytest.raises(UserError, match=r"have no effect on task\.data\.source files"):
        RetrievalDataConfig(**settings)


def test_the_dropout_of_the_head_is_the_models_unless_it_is_set(make_task):
    model = asdict(make_task().model)
    assert make_task().build_network().head.dropout.rate == model["attention_dropout"] == 0.1
    assert make_task(head_dropout=0.0).build_network().head.dropout.rate == 0.0
