"""Updates of pre-training by our program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
from safetensors.numpy import save_file

from unimo_paddle import distributed
from unimo_paddle.benchmarks.step import (
    BETAS,
    CLIP_NORM,
    EPSILON,
    FIRST_POSITION,
    INITIALIZER_RANGE,
    LEARNING_RATE,
    NUM_COMPARED,
    PROJECTION_SIZE,
    TEMPERATURE,
    WEIGHT_DECAY,
    WEIGHTS_NAME,
    Inputs,
    StepSizes,
)
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.models import ModelConfig
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.process import tune_process
from unimo_paddle.program import Runner
from unimo_paddle.tasks.pretraining import PretrainingConfig, PretrainingTask
from unimo_paddle.tasks.pretraining_fields import GROUP, caption_inputs
from unimo_paddle.tasks.pretraining_settings import ObjectiveWeights, PretrainingDataConfig
from unimo_paddle.updates import build_update


class Updates:
    """One update after the other, of the same batch."""

    def __init__(self, inputs: Inputs) -> None:
        tune_process()
        distributed.start()
        case = inputs.case
        task = _make_task(case.sizes, Path(case.folder))
        fields = (*task.encoder.masked_fields("pairs"), GROUP, *caption_inputs(1))
        optimizer = build_optimizer(
            OptimizerConfig(
                learning_rate=LEARNING_RATE,
                schedule="constant",
                warmup_ratio=0.0,
                weight_decay=WEIGHT_DECAY,
                beta1=BETAS[0],
                beta2=BETAS[1],
                epsilon=EPSILON,
                clip_norm=CLIP_NORM,
            ),
            max_steps=1000,
        )
        self._update = build_update(task, case.batch, fields, optimizer, seed=0, num_passes=1)
        self._runner = Runner()
        self._update.start(self._runner)
        state = self._runner.state(self._update.programs)
        weights = {name: state[name] for name in self._update.parameter_names}
        save_file(weights, Path(case.folder) / WEIGHTS_NAME)
        self._batch = _feeds(inputs)
        self._losses: list[list[float]] = []

    @staticmethod
    def versions() -> dict[str, str]:
        """What the figures depend on."""
        return {"paddle": paddle.__version__}

    def run(self) -> None:
        """An update."""
        values = self._update.run(self._runner, iter([self._batch]), len(self._losses))
        self._losses.append([float(values[x]) for x in ("masked_language", "contrastive")])

    def results(self) -> np.ndarray:
        """The losses of the first updates: [updates, 2]."""
        return np.array(self._losses[:NUM_COMPARED])


def _make_task(sizes: StepSizes, folder: Path) -> PretrainingTask:
    model = ModelConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        num_layers=sizes.num_layers,
        num_heads=sizes.num_heads,
        region_feature_size=sizes.feature_size,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        initializer_range=INITIALIZER_RANGE,
    )
    image = ImageConfig(kind="regions", feature_size=sizes.feature_size)
    config = PretrainingConfig(
        data=PretrainingDataConfig(source="files", pairs="none", image=image),
        weights=ObjectiveWeights(
            seq2seq_language=0.0, region_regression=0.0, region_classification=0.0
        ),
        projection_size=PROJECTION_SIZE,
        temperature=TEMPERATURE,
    )
    return config.build(model, folder)


def _feeds(inputs: Inputs) -> dict[str, np.ndarray]:
    batch, count, _ = inputs.features.shape
    ids, positions = inputs.ids, inputs.positions
    places = np.tile(np.arange(ids.shape[1]) + FIRST_POSITION, (batch, 1))
    real = np.ones(ids.shape, np.float32)
    numbers = np.arange(batch)
    return {
        "region_features": inputs.features,
        "region_boxes": inputs.boxes,
        "region_mask": np.ones((batch, count), np.float32),
        "hidden_text_input_ids": inputs.hidden_ids,
        "hidden_text_position_ids": places,
        "hidden_text_mask": real,
        "hidden_text_text_order": np.zeros_like(ids),
        "hidden_text_positions": positions,
        "hidden_text_labels": np.take_along_axis(ids, positions, axis=1),
        "hidden_text_weights": np.ones(positions.shape, np.float32),
        "hidden_text_seq2seq": np.zeros(positions.shape, np.float32),
        "caption_input_ids": ids[:, None],
        "caption_position_ids": places[:, None],
        "caption_text_mask": real[:, None],
        "group": numbers,
        "caption_group": numbers[:, None],
    }
