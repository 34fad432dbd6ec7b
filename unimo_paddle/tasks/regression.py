"""Regression of a number from a pair of texts: STS-B."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor

from unimo_paddle import losses
from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.records import Fault
from unimo_paddle.metrics.intervals import with_intervals
from unimo_paddle.metrics.regression import pearson, spearman
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.heads import HEAD_DROPOUT
from unimo_paddle.tasks.base import Arrays, TaskConfig, Tensors
from unimo_paddle.tasks.classification import TextNetwork, check_dropout
from unimo_paddle.tasks.finetuning import Prediction
from unimo_paddle.tasks.pooling import check_pooling
from unimo_paddle.tasks.text_records import TextDataConfig, TextRecord, TextTask


@TaskConfig.register_subclass("regression")
@dataclass(frozen=True)
class RegressionConfig(TaskConfig):
    """A number for each pair of texts."""

    data: TextDataConfig = field(default_factory=TextDataConfig)
    head_dropout: float = HEAD_DROPOUT  # before the number
    pooling: str = "first"  # what is read of the text: first, mean, mask

    def __post_init__(self) -> None:
        check_dropout(self.head_dropout)
        check_pooling(self.pooling, self.data)

    def build(self, model: ModelConfig, assets_dir: Path) -> RegressionTask:
        """Make the task for a model of these sizes."""
        return RegressionTask(self, model, assets_dir)


class RegressionTask(TextTask):
    """See the module."""

    targets = (Field("labels", (), "float32", 0),)

    def __init__(self, config: RegressionConfig, model: ModelConfig, assets_dir: Path) -> None:
        super().__init__(config.data, model, assets_dir)
        self.config = config
        self.pooling = config.pooling
        self.data = config.data

    def check_label(self, label: str) -> None:
        """Raise a ``Fault`` for what is no finite number."""
        try:
            value = float(label)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise Fault(f"label {label!r} is no finite number")

    def encode_targets(self, record: TextRecord) -> Sample:
        """The number."""
        return {"labels": np.float32(record.label)}

    def build_network(self) -> TextNetwork:
        """Make the Transformer with a layer for one number."""
        return TextNetwork(self.model, 1, self.config.head_dropout, self.config.pooling)

    def loss(self, network: TextNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The mean squared error."""
        labels = batch["labels"].unsqueeze(1)
        weights = paddle.ones_like(batch["labels"])
        return {"loss": losses.mean_squared_error(network(batch), labels, weights)}

    def predict(self, network: TextNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The number [B]."""
        return {"values": network(batch).squeeze(1)}

    def decode(self, outputs: Arrays) -> list[Prediction]:
        """The number as ``value``."""
        return [{"value": float(value)} for value in outputs["values"]]

    def measure(
        self, predictions: Sequence[Prediction], records: Sequence[TextRecord]
    ) -> dict[str, float]:
        """Pearson's and Spearman's correlation with their intervals."""
        predicted = np.array([item["value"] for item in predictions])
        right = np.array([float(record.label) for record in records])
        return with_intervals({"pearson": pearson, "spearman": spearman}, predicted, right)
