"""The static programs of pre-training, on a few scenes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.loader import Loader
from unimo_paddle.data.scenes import SceneConfig
from unimo_paddle.data.text import TokenizerConfig
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.program import Runner, build_evaluation, build_service, build_training
from unimo_paddle.tasks.pretraining import (
    Mixture,
    ObjectiveWeights,
    PretrainingConfig,
    PretrainingTask,
)
from unimo_paddle.tasks.pretraining_settings import PretrainingDataConfig

BATCH_SIZE = 14
MODEL = ModelConfig(
    vocab_size=400,
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    max_positions=100,
    region_feature_size=768,
    hidden_dropout=0.0,
    attention_dropout=0.0,
)

EVERYTHING = ObjectiveWeights(object_names=1.0)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PretrainingConfig:
    scenes = SceneConfig(num_train=30, num_test=8, num_novel=4, num_texts=30, num_images_only=10)
    data = PretrainingDataConfig(
        scenes_dir=str(tmp_path_factory.mktemp("data") / "scenes"),
        scenes=scenes,
        tokenizer=TokenizerConfig(vocab_size=400),
        image=ImageConfig(image_size=64, patch_size=16),
        max_text_length=64,
        num_visual_words=16,
    )
    return PretrainingConfig(data=data, weights=EVERYTHING, projection_size=16)


def make_task(config: PretrainingConfig, folder: Path) -> PretrainingTask:
    task = config.build(MODEL, folder)
    task.prepare(0)
    return task


def train(task: PretrainingTask, *, num_updates: int) -> list[dict]:
    streams = task.training_streams(BATCH_SIZE)
    loader = Loader(streams, seed=0)
    fields = [item for stream in streams for item in stream.fields]
    optimizer = build_optimizer(OptimizerConfig(learning_rate=3e-3, warmup_ratio=0.0), num_updates)
    program = build_training(task, fields, optimizer, seed=0)
    runner = Runner()
    runner.start(program)
    return [runner.run(program, loader.batch(index)) for index in range(num_updates)]


@pytest.mark.usefixtures("static_graph")
class TestPretraining:
    def test_every_objective_is_logged_and_the_loss_falls(self, config, tmp_path) -> None:
        outputs = train(make_task(config, tmp_path), num_updates=30)
        assert set(vars(ObjectiveWeights())) <= set(outputs[0])
        losses = [float(output["loss"]) for output in outputs]
        assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])

    def test_the_loss_is_the_weighted_sum_of_its_terms(self, config, tmp_path) -> None:
        weights = ObjectiveWeights(0.5, 2.0, 3.0, 0.25, 1.5, 0.75)
        output = train(make_task(replace(config, weights=weights), tmp_path), num_updates=1)[0]
        total = sum(weight * float(output[name]) for name, weight in vars(weights).items())
        assert float(output["loss"]) == pytest.approx(total, rel=1e-5)

    @pytest.mark.parametrize("name", list(vars(ObjectiveWeights())))
    def test_a_weight_of_zero_removes_an_objective(self, config, tmp_path, name) -> None:
        weights = replace(EVERYTHING, **{name: 0.0})
        output = train(make_task(replace(config, weights=weights), tmp_path), num_updates=1)[0]
        assert name not in output
        assert np.isfinite(output["loss"]).all()

    @pytest.mark.parametrize("pooling", ["first", "mean"])
    def test_features_are_unit_vectors_whatever_the_pooling(
        self, config, tmp_path, pooling
    ) -> None:
        task = make_task(replace(config, pooling=pooling, masked_pair_share=0.5), tmp_path)
        records = task.encoder.read_split("test")
        service = build_service(task, task.services[0])
        runner = Runner()
        runner.start(service)
        batch = Loader([task.encoder.image_stream(records)], seed=0, shuffle=False).batch(0)
        features = runner.run(service, batch)["image_features"]
        np.testing.assert_allclose((features**2).sum(axis=1), 1.0, rtol=1e-4)

    def test_an_unweighted_network_is_evaluated_by_the_same_names(self, config, tmp_path) -> None:
        task = make_task(config, tmp_path)
        stream = task.evaluation_stream("test", 4)
        program = build_evaluation(task, stream.fields)
        runner = Runner()
        runner.start(program)
        values = runner.run(program, Loader([stream], seed=0, shuffle=False).batch(0))
        assert all(np.isfinite(value).all() for value in values.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": ObjectiveWeights(contrastive=-1.0)}, "task.weights.contrastive"),
        ({"weights": ObjectiveWeights(0, 0, 0, 0, 0)}, "every weight"),
        ({"mixture": Mixture(texts=-1.0)}, "task.mixture.texts"),
        ({"masked_pair_share": 1.5}, "task.masked_pair_share"),
        ({"pooling": "max"}, "task.pooling"),
        ({"correlated_start": -1}, "task.correlated_start"),
        ({"correlated_start": 1}, "task.correlated_start is 1, .* give at least 2, .* or 0"),
        ({"contrastive_chunk_size": -1}, "task.contrastive_chunk_size is -1; give at least 0"),
        (
            {"contrastive_chunk_size": 8, "weights": ObjectiveWeights(contrastive=0.0)},
            "task.contrastive_chunk_size is 8 but task.weights.contrastive is 0; set",
        ),
        (
            {"masked_pair_share": 0.0, "mixture": Mixture(texts=0.0)},
            r"masked_language is 1, but .* task\.masked_pair_share, task\.mixture\.texts, "
            r"task\.mixture\.statements are 0; .* or set task\.weights\.masked_language, "
            r"task\.weights\.seq2seq_language to 0",
        ),
        (
            {
                "masked_pair_share": 0.0,
                "mixture": Mixture(images=0.0),
                "weights": ObjectiveWeights(masked_language=0.0, seq2seq_language=0.0),
            },
            r"region_regression is 1, but .*\.images, task\.mixture\.statements are 0",
        ),
        ({"temperature": 2.0}, "task.temperature"),
        ({"min_temperature": 0.0}, "task.min_temperature"),
    ],
)
def test_wrong_settings_are_named(change, message) -> None:
    with pytest.raises(UserError, match=message):
        PretrainingConfig(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"mixture": Mixture(statements=1.0, texts=0.0, images=0.0)},
        {"weights": ObjectiveWeights(1.0, 0.0, 0.0, 0.0, 0.0), "mixture": Mixture(0.0, 0.0)},
    ],
    ids=["statements", "no objective"],
)
def test_pairs_need_not_be_read_jointly(change) -> None:
    assert not PretrainingConfig(masked_pair_share=0.0, **change).encodes_jointly
