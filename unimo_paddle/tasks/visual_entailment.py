"""Visual entailment, SNLI-VE: what an image says of a sentence; and whether both match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor, nn
from paddle.nn import functional as F

from unimo_paddle.adversarial import AdversarialConfig, PerturbedLoss
from unimo_paddle.data.fields import Sample
from unimo_paddle.data.original_pairs import OriginalHypothesis, StoredRegions, read_hypotheses
from unimo_paddle.data.original_regions import whole_number
from unimo_paddle.data.records import Fault, Folder, check_text, gather, parse_object, read_lines
from unimo_paddle.data.tables import read_table
from unimo_paddle.errors import UserError
from unimo_paddle.models import EntailmentHead, ModelConfig, UnifiedTransformer
from unimo_paddle.models.heads import HEAD_DROPOUT
from unimo_paddle.tasks.base import Arrays, TaskConfig, Tensors
from unimo_paddle.tasks.classification import (
    LABELS,
    check_dropout,
    check_labels,
    classification_terms,
    decode_classes,
    measure_classes,
    perturbed_classification,
)
from unimo_paddle.tasks.finetuning import Prediction, with_ids
from unimo_paddle.tasks.image_records import (
    Image,
    ImageDataConfig,
    ImageTask,
    Text,
    check_file_list,
    check_ids,
    check_text_length,
    id_of,
    once_each,
    perturbed_sides,
)
from unimo_paddle.tasks.pooling import check_pooling, pool_pair
from unimo_paddle.tasks.segments import TEXT_INPUTS, image_inputs, take

TABLE_SUFFIX = ".tsv"
PAIR_FIELDS = (*image_inputs(), *TEXT_INPUTS)


@dataclass(frozen=True)
class EntailmentDataConfig(ImageDataConfig):
    """Where images with hypotheses come from: JSON lines, tables (.tsv) or the original's files."""

    image_dir: str | None = None  # folder that image paths are relative to; none: the data file's
    columns: tuple[str, ...] = ()  # of tables without a header, such as [image, hypothesis, label]
    file_list_root: str | None = None  # folder of the paths in a file list; none: the list's own

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source != "files" and (self.image_dir is not None or self.columns):
            raise UserError(
                "task.data.image_dir and task.data.columns have no effect on task.data.source "
                f"{self.source}; leave them out"
            )
        check_file_list(self.file_list_root, self.source)


@TaskConfig.register_subclass("visual_entailment")
@dataclass(frozen=True)
class VisualEntailmentConfig(TaskConfig):
    """Classes of pairs of an image and a sentence."""

    data: EntailmentDataConfig = field(default_factory=EntailmentDataConfig)
    labels: tuple[str, ...] = (
        "entailment",
        "neutral",
        "contradiction",
    )  # names of the classes; the numbers in the original's files count them
    head_dropout: float = HEAD_DROPOUT  # before the classes
    pooling: str = "first"  # what is read of text and image: first, mean, mask
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_dropout(self.head_dropout)
        check_pooling(self.pooling, self.data)

    def build(self, model: ModelConfig, assets_dir: Path) -> VisualEntailmentTask:
        """Make the task for a model of these sizes."""
        return VisualEntailmentTask(self, model, assets_dir)


@dataclass(frozen=True)
class EntailmentRecord:
    """An image, a sentence, and what the one says of the other."""

    image: Image | StoredRegions
    hypothesis: Text
    label: str | None = None
    id: str | None = None


class EntailmentNetwork(nn.Layer):
    """Encodes an image with a sentence; a head reads both, pooled."""

    def __init__(self, model: ModelConfig, num_labels: int, dropout: float, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.transformer = UnifiedTransformer(model)
        self.head = EntailmentHead(model, num_labels, dropout=dropout)

    def forward(self, batch: Tensors, perturbations: Tensors | None = None) -> Tensor:
        """Return logits [B, num_labels]."""
        encoding = self.transformer(**take(batch, PAIR_FIELDS), **(perturbations or {}))
        return self.head(*pool_pair(self.transformer, encoding, batch, self.pooling))


class VisualEntailmentTask(ImageTask):
    """See the module."""

    data: EntailmentDataConfig
    targets = (LABELS,)
    scenes_prefix = "entailment_"

    def __init__(
        self, config: VisualEntailmentConfig, model: ModelConfig, assets_dir: Path
    ) -> None:
        super().__init__(config.data, model, assets_dir)
        check_text_length(config.data, model)
        self.config = config
        self.pooling = config.pooling
        self.data = config.data
        self.inputs = (*self.image_inputs, *TEXT_INPUTS)

    # ---- host half

    def read(self, path: Path) -> Sequence[EntailmentRecord]:
        """The records of a file of JSON lines, of a table or in the original's format."""
        if self.data.source == "original":
            return self.read_original(path)
        folder = Folder(Path(self.data.image_dir) if self.data.image_dir else path.parent)
        parse = once_each(lambda item: self.parse_with(item, folder.find))
        limit = self.data.bad_record_limit
        if path.suffix.lower() == TABLE_SUFFIX:
            columns = self.data.columns
            return read_table(
                path, parse, required=["image"], columns=columns, bad_record_limit=limit
            )
        return gather(
            path, read_lines(path), lambda line: parse(parse_object(line)), bad_record_limit=limit
        )

    def read_original(self, path: Path) -> Sequence[EntailmentRecord]:
        """The records of a file in the original's format, or of all files that it lists."""
        root = self.data.file_list_root
        return read_hypotheses(
            path,
            once_each(self._record_of_original),
            root=Path(root) if root else None,
            bad_record_limit=self.data.bad_record_limit,
        )

    def _record_of_original(self, line: OriginalHypothesis) -> EntailmentRecord:
        labels, label = self.config.labels, None
        if line.label:
            number = whole_number(line.label, "label")
            if number >= len(labels):
                raise Fault(f"label is {number}, but there are {len(labels)}: {', '.join(labels)}")
            label = labels[number]
        check_ids(line.ids, self.model)
        image = self.image_of_original(line.image_id, line.regions)
        return EntailmentRecord(image, line.ids, label, line.id or None)

    def parse_with(self, item: Mapping[str, Any], find: Callable[[str], Path]) -> EntailmentRecord:
        """A record from the image, ``hypothesis`` or ``caption`` and, if there, label and id."""
        key = "hypothesis" if "hypothesis" in item else "caption"
        if key not in item:
            raise Fault(f"key 'hypothesis' is missing; found {', '.join(sorted(item)) or 'none'}")
        label = item.get("label")
        if label is not None:
            label = str(label).strip()
            if label not in self.config.labels:
                raise Fault(f"label {label!r} is none of {', '.join(self.config.labels)}")
        sentence = check_text(item[key], key)
        return EntailmentRecord(self.image_of(item, find), sentence, label, id_of(item))

    def texts(self, record: EntailmentRecord) -> Iterable[str]:
        """The sentence, where it is text and not ids."""
        return [record.hypothesis] if isinstance(record.hypothesis, str) else []

    def encode(self, record: EntailmentRecord, rng: np.random.Generator | None = None) -> Sample:
        """The rows of the image, and ``[CLS] sentence [SEP]``."""
        text = self.encode_text(record.hypothesis)
        if isinstance(record.image, StoredRegions):
            return record.image.encode(self.encode_image) | text
        return self.encode_image(record.image, rng, [record.hypothesis]) | text

    def encode_targets(self, record: EntailmentRecord) -> Sample:
        """The number of the class."""
        return {"labels": np.int64(self.config.labels.index(record.label))}

    def is_labelled(self, record: EntailmentRecord) -> bool:
        """Whether the record has a label."""
        return record.label is not None

    def predictions(self, split: str, serve: Callable[..., Arrays]) -> list[Prediction]:
        """As every task's, with the ``id`` of a record that has one."""
        return with_ids(super().predictions(split, serve), self.read_split(split))

    def decode(self, outputs: Arrays) -> list[Prediction]:
        """The likeliest class, and the probabilities of all by name."""
        return decode_classes(outputs["probabilities"], self.config.labels)

    def measure(
        self, predictions: Sequence[Prediction], records: Sequence[EntailmentRecord]
    ) -> dict[str, float]:
        """Accuracy, Matthews' correlation and for two classes F1, with their intervals."""
        return measure_classes(predictions, [x.label for x in records], self.config.labels)

    # ---- graph half

    def build_network(self) -> EntailmentNetwork:
        """Make the Transformer with the layers for the classes."""
        config = self.config
        return EntailmentNetwork(
            self.model, len(config.labels), config.head_dropout, config.pooling
        )

    def loss(self, network: EntailmentNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The cross entropy of the classes, and how many of them are right."""
        return classification_terms(network(batch), batch["labels"])

    def perturbed_loss(self) -> PerturbedLoss | None:
        """The same loss of perturbed inputs too, where that is configured."""
        return perturbed_classification(self.config.adversarial, perturbed_sides(self.model))

    def predict(self, network: EntailmentNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The probability of every class."""
        return {"probabilities": F.softmax(network(batch))}
