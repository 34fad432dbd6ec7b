"""Classification of texts and pairs of texts: SST-2, CoLA, MNLI and the like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from unimo_paddle import losses
from unimo_paddle.adversarial import TEXT, AdversarialConfig, PerturbedLoss, Side
from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.classification import accuracy, f1, matthews
from unimo_paddle.metrics.intervals import with_intervals
from unimo_paddle.models import ClassificationHead, ModelConfig, UnifiedTransformer
from unimo_paddle.models.heads import HEAD_DROPOUT
from unimo_paddle.tasks.base import Arrays, TaskConfig, Tensors
from unimo_paddle.tasks.finetuning import Prediction
from unimo_paddle.tasks.pooling import check_pooling, pool_text
from unimo_paddle.tasks.segments import TEXT_INPUTS, take
from unimo_paddle.tasks.text_records import TextDataConfig, TextRecord, TextTask, text_side

LABELS = Field("labels", (), "int64", 0)


@TaskConfig.register_subclass("classification")
@dataclass(frozen=True)
class ClassificationConfig(TaskConfig):
    """Classes of texts or of pairs of texts."""

    data: TextDataConfig = field(default_factory=TextDataConfig)
    labels: tuple[str, ...] = ("0", "1")  # names of the classes as they stand in the tables
    head_dropout: float = HEAD_DROPOUT  # before the classes
    pooling: str = "first"  # what is read of the text: first, mean, mask
    adversarial: AdversarialConfig = field(default_factory=lambda: AdversarialConfig(sides=TEXT))

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_dropout(self.head_dropout)
        check_pooling(self.pooling, self.data)
        check_sides(self.adversarial)

    def build(self, model: ModelConfig, assets_dir: Path) -> ClassificationTask:
        """Make the task for a model of these sizes."""
        return ClassificationTask(self, model, assets_dir)


def check_labels(labels: Sequence[str]) -> None:
    """Raise for a list of classes that tells nothing apart."""
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise UserError(f"task.labels is {list(labels)}; give at least two different names")


def check_dropout(dropout: float) -> None:
    """Raise for what is no share."""
    if not 0.0 <= dropout < 1.0:
        raise UserError(f"task.head_dropout is {dropout}; give a share from 0 to below 1")


def check_sides(adversarial: AdversarialConfig) -> None:
    """Raise where a task on texts is to perturb images."""
    if adversarial.sides != TEXT:
        raise UserError(
            f"task.adversarial.sides is {adversarial.sides!r}, but this task has texts only; set "
            f"it to {TEXT}"
        )


class TextNetwork(nn.Layer):
    """Encodes texts; a linear layer reads the first token, or the mean of all."""

    def __init__(self, model: ModelConfig, num_outputs: int, dropout: float, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.transformer = UnifiedTransformer(model, with_images=False, poolers=("text",))
        self.head = ClassificationHead(model, num_outputs, dropout=dropout)

    def forward(self, batch: Tensors, perturbations: Tensors | None = None) -> Tensor:
        """Return the head's outputs [B, num_outputs]."""
        encoding = self.transformer(**take(batch, TEXT_INPUTS), **(perturbations or {}))
        return self.head(pool_text(self.transformer, encoding, batch, self.pooling))


class ClassificationTask(TextTask):
    """See the module."""

    targets = (LABELS,)

    def __init__(self, config: ClassificationConfig, model: ModelConfig, assets_dir: Path) -> None:
        super().__init__(config.data, model, assets_dir)
        self.config = config
        self.pooling = config.pooling
        self.data = config.data

    def check_label(self, label: str) -> None:
        """Raise a ``Fault`` for an unknown class."""
        if label not in self.config.labels:
            raise Fault(f"label {label!r} is none of {', '.join(self.config.labels)}")

    def encode_targets(self, record: TextRecord) -> Sample:
        """The number of the class."""
        return {"labels": np.int64(self.config.labels.index(record.label))}

    def build_network(self) -> TextNetwork:
        """Make the Transformer with a layer for the classes."""
        config = self.config
        return TextNetwork(self.model, len(config.labels), config.head_dropout, config.pooling)

    def loss(self, network: TextNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The cross entropy of the classes, and how many of them are right."""
        return classification_terms(network(batch), batch["labels"])

    def perturbed_loss(self) -> PerturbedLoss | None:
        """The same loss of perturbed inputs too, where that is configured."""
        return perturbed_classification(self.config.adversarial, text_side(self.model))

    def predict(self, network: TextNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The probability of every class."""
        return {"probabilities": F.softmax(network(batch))}

    def decode(self, outputs: Arrays) -> list[Prediction]:
        """The likeliest class, and the probabilities of all by name."""
        return decode_classes(outputs["probabilities"], self.config.labels)

    def measure(
        self, predictions: Sequence[Prediction], records: Sequence[TextRecord]
    ) -> dict[str, float]:
        """Accuracy, Matthews' correlation and for two classes F1, with their intervals."""
        return measure_classes(predictions, [x.label for x in records], self.config.labels)


def classification_terms(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return ``loss`` and ``accuracy`` of logits [B, C] for labels [B]."""
    weights = paddle.ones_like(labels).astype(logits.dtype)
    is_right = (paddle.argmax(logits, axis=1) == labels).astype(logits.dtype)
    return {
        "loss": losses.token_cross_entropy(logits, labels, weights),
        "accuracy": is_right.mean(),
    }


def perturbed_classification(
    adversarial: AdversarialConfig, sides: Mapping[str, Side]
) -> PerturbedLoss | None:
    """The cross entropy of perturbed inputs too; None where that is not configured."""
    if not adversarial.steps:
        return None
    return PerturbedLoss(
        adversarial,
        sides,
        cross_entropy=lambda logits, batch: losses.token_cross_entropy(
            logits, batch["labels"], _ones(batch)
        ),
        weights=_ones,
    )


def _ones(batch: Tensors) -> Tensor:
    return paddle.ones_like(batch["labels"]).astype("float32")


def decode_classes(probabilities: np.ndarray, labels: Sequence[str]) -> list[Prediction]:
    """The likeliest class of each row, and the probabilities of all classes by name."""
    return [
        {
            "label": labels[int(row.argmax())],
            "probabilities": {name: float(p) for name, p in zip(labels, row, strict=True)},
        }
        for row in probabilities
    ]


def measure_classes(
    predictions: Sequence[Prediction], truth: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """The metrics of predicted classes by name."""
    numbers = {name: number for number, name in enumerate(labels)}
    predicted = np.array([numbers[item["label"]] for item in predictions])
    right = np.array([numbers[label] for label in truth])
    metrics: dict[str, Callable[..., float]] = {"accuracy": accuracy, "matthews": matthews}
    if len(labels) == 2:
        metrics["f1"] = f1
    return with_intervals(metrics, predicted, right)
