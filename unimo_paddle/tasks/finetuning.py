"""What tasks on labelled records share: vocabulary, streams of splits, one service, predictions.

A task says how a record is read, encoded, predicted and measured; the rest is here. Inputs and
targets are encoded apart, so that a record without a label can be predicted.
"""

from __future__ import annotations

import functools
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor

from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.original_order import by_seed, reorder
from unimo_paddle.data.text import Tokenizer, TokenizerConfig
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.base import Arrays, Service, Task, Tensors
from unimo_paddle.tasks.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

COMPATIBILITIES = ("standard", "original")
PREDICT = "predict"  # name of the service
TRAIN_SPLIT = "train"

Prediction = dict[str, Any]  # what a user gets for a record, as JSON holds it


@dataclass(frozen=True)
class FineTuningDataConfig:
    """Where the records come from."""

    train: str | None = None  # file to train on
    splits: dict[str, str] = field(default_factory=dict)  # name of a split: file to evaluate on
    prepare: str | None = None  # command that makes these files, told where one is missing
    num_records: int | None = None  # of the training file as published, for estimates without it
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    bad_record_limit: float = 0.01  # share of a file's records that may be unusable
    compatibility: str = "standard"  # original repeats the original's orders and mistakes

    def __post_init__(self) -> None:
        if self.compatibility not in COMPATIBILITIES:
            raise UserError(
                f"task.data.compatibility is {self.compatibility!r}; choose one of "
                f"{', '.join(COMPATIBILITIES)}"
            )
        if not 0.0 <= self.bad_record_limit <= 1.0:
            raise UserError(
                f"task.data.bad_record_limit is {self.bad_record_limit}; give a share from 0 to 1"
            )
        if TRAIN_SPLIT in self.splits:
            raise UserError("task.data.splits names 'train', which task.data.train is; rename it")

    @property
    def is_original(self) -> bool:
        """Whether the original's orders and mistakes are repeated."""
        return self.compatibility == "original"


class FineTuningTask(Task):
    """A task on labelled records; ``inputs`` and ``targets`` are its fields.

    Args:
        data: where the records come from.
        model: sizes of the model.
        assets_dir: holds the vocabulary.
    """

    inputs: tuple[Field, ...]
    targets: tuple[Field, ...]

    def __init__(self, data: FineTuningDataConfig, model: ModelConfig, assets_dir: Path) -> None:
        self.data = data
        self.model = model
        self.assets_dir = assets_dir
        self.vocabulary = Vocabulary(data.tokenizer, model, assets_dir)
        self._seed = 0  # of the run, as soon as it is known
        self._splits: dict[str, Sequence[Any]] = {}
        self._labelled: dict[str, list[int]] = {}

    @property
    def services(self) -> tuple[Service, ...]:
        """The one function that a bundle serves."""
        return (Service(PREDICT, self.inputs, self.predict),)

    # ---- what a task says of itself

    @abstractmethod
    def read(self, path: Path) -> Sequence[Any]:
        """The records of a file."""

    @abstractmethod
    def parse(self, item: Mapping[str, Any]) -> Any:
        """The record that a user gives to the predictor, as JSON holds it; a ``Fault`` if bad."""

    @abstractmethod
    def texts(self, record: Any) -> Iterable[str]:
        """The record's texts, to train a vocabulary on."""

    @abstractmethod
    def encode(self, record: Any, rng: np.random.Generator | None = None) -> Sample:
        """The inputs of a record; augmented where a generator is given."""

    @abstractmethod
    def encode_targets(self, record: Any) -> Sample:
        """What training needs beside the inputs; asked of labelled records only."""

    @abstractmethod
    def is_labelled(self, record: Any) -> bool:
        """Whether the record says what is right."""

    @abstractmethod
    def predict(self, network: Any, batch: Tensors) -> dict[str, Tensor]:
        """What is computed of the inputs."""

    @abstractmethod
    def decode(self, outputs: Arrays) -> list[Prediction]:
        """Predictions of the records whose outputs these are, in order."""

    @abstractmethod
    def measure(self, predictions: Sequence[Prediction], records: Sequence[Any]) -> dict:
        """The metrics of predictions of labelled records."""

    def original_order(self, count: int, epoch: int) -> np.ndarray:
        """The order of ``count`` records in an epoch of the original."""
        return by_seed(count, epoch, self._seed)

    def length(self, record: Any) -> int | None:
        """A number that grows with the record's length, to batch like with like; None: do not.

        Where texts of one length are of one kind, as questions are, a batch of them teaches one
        thing and the next another: such records are better left as they come.
        """
        return None

    # ---- assets

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; there is one as soon as the task is prepared."""
        assert self.vocabulary.tokenizer is not None, "prepare the task first"
        return self.vocabulary.tokenizer

    def prepare(self, seed: int) -> None:
        """Load the vocabulary, or train it on the texts of the training records."""
        self._seed = seed
        self.vocabulary.prepare(self._corpus)
        self.save_assets(self.assets_dir)

    def _corpus(self) -> Iterable[str]:
        return (text for record in self.read_split(TRAIN_SPLIT) for text in self.texts(record))

    def save_assets(self, folder: Path) -> None:
        """Write the vocabulary."""
        self.vocabulary.save(folder)

    # ---- records and streams

    def read_split(self, split: str) -> Sequence[Any]:
        """The records of a split, read once."""
        if split not in self._splits:
            path = self.split_path(split)
            if self.data.prepare and not path.exists():
                raise UserError(f"{path} does not exist; make it: {self.data.prepare}")
            self._splits[split] = self.read(path)
        return self._splits[split]

    def labelled(self, split: str) -> list[int]:
        """The indices of a split's records that say what is right; the others are told once."""
        if split not in self._labelled:
            records = self.read_split(split)
            found = [index for index, x in enumerate(records) if self.is_labelled(x)]
            if len(found) < len(records):
                logger.warning(
                    "%d of %d records of %s have no label; they can be predicted but not measured",
                    len(records) - len(found),
                    len(records),
                    self.split_path(split),
                )
            self._labelled[split] = found
        return self._labelled[split]

    def split_path(self, split: str) -> Path:
        """The file of a split."""
        if split == TRAIN_SPLIT:
            if not self.data.train:
                raise UserError("task.data.train names no file to train on; give one")
            return Path(self.data.train)
        if split not in self.data.splits:
            known = ", ".join(self.data.splits) or "none is set"
            raise UserError(
                f"split {split!r} is not under task.data.splits ({known}); add it there"
            )
        return Path(self.data.splits[split])

    def training_fields(self, batch_size: int) -> tuple[Field, ...]:
        """Inputs and targets."""
        return (*self.inputs, *self.targets)

    def evaluation_fields(self) -> tuple[Field, ...]:
        """The same as in training."""
        return self.training_fields(1)

    def training_streams(self, batch_size: int) -> tuple[Stream, ...]:
        """The training records, labelled, augmented, in batches of similar length."""
        records = self.read_split(TRAIN_SPLIT)
        bare = sum(not self.is_labelled(record) for record in records)
        if bare:
            raise UserError(
                f"{bare} of {len(records)} records of {self.split_path(TRAIN_SPLIT)} have no "
                "label; they can be predicted but not trained on"
            )
        fields = self.training_fields(batch_size)
        if self.data.is_original:
            order = functools.partial(self.original_order, len(records))
            return (
                Stream(
                    TRAIN_SPLIT,
                    reorder(records, order),
                    self._encode_whole,
                    fields,
                    batch_size,
                    shuffle=False,
                ),
            )
        lengths = [self.length(record) for record in records]
        return (
            Stream(
                TRAIN_SPLIT,
                records,
                self._encode_whole,
                fields,
                batch_size,
                lengths=None if None in lengths else np.array(lengths),
            ),
        )

    def evaluation_stream(self, split: str, batch_size: int) -> Stream | None:
        """The labelled records of a split with their targets; None where there are none."""
        labelled, records = self.labelled(split), self.read_split(split)
        if not labelled:
            return None
        if len(labelled) < len(records):
            records = [records[index] for index in labelled]
        encode = lambda record, rng: self._encode_whole(record, None)  # noqa: E731
        return Stream(split, records, encode, self.evaluation_fields(), batch_size)

    def input_stream(self, records: Sequence[Any], batch_size: int = 64) -> Stream:
        """Any records, as the service is fed."""
        encode = lambda record, rng: self.encode(record)  # noqa: E731
        return Stream("records", records, encode, self.inputs, batch_size)

    def _encode_whole(self, record: Any, rng: np.random.Generator | None) -> Sample:
        return {**self.encode(record, rng), **self.encode_targets(record)}

    # ---- measures

    def predictions(self, split: str, serve: Callable[[str, Stream], Arrays]) -> list[Prediction]:
        """A prediction of each usable record of a split, with its ``index`` in the split."""
        outputs = dict(serve(PREDICT, self.input_stream(self.read_split(split))))
        indices = outputs.pop("index")
        decoded = self.decode(outputs)
        return [
            {"index": int(index), **prediction}
            for index, prediction in zip(indices, decoded, strict=True)
        ]

    def score(self, split: str, serve: Callable[[str, Stream], Arrays]) -> dict[str, float]:
        """The task's metrics on the labelled records of a split; none where there are none."""
        if not self.labelled(split):
            return {}
        return self.measure(*self._of_labelled(split, self.predictions(split, serve)))

    def _of_labelled(
        self, split: str, predictions: Sequence[Prediction]
    ) -> tuple[list[Prediction], list[Any]]:
        """The predictions of a split's labelled records, and these records."""
        labelled, records = set(self.labelled(split)), self.read_split(split)
        chosen = [item for item in predictions if item["index"] in labelled]
        return chosen, [records[item["index"]] for item in chosen]


def with_ids(predictions: Sequence[Prediction], records: Sequence[Any]) -> list[Prediction]:
    """Predictions with the ``id`` of their records, where these have one."""
    ids = [records[item["index"]].id for item in predictions]
    return [
        item if id_ is None else {"index": item["index"], "id": id_, **item}
        for item, id_ in zip(predictions, ids, strict=True)
    ]
