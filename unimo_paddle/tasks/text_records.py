"""Records of one or two texts with a label, from tables; what tasks on them share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.adversarial import TEXT, Side
from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.original_order import by_epoch
from unimo_paddle.data.records import Fault, check_text
from unimo_paddle.data.sequences import mark_pair, mark_text
from unimo_paddle.data.tables import read_table
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.finetuning import FineTuningDataConfig, FineTuningTask
from unimo_paddle.tasks.pooling import last_ids
from unimo_paddle.tasks.segments import TEXT_INPUTS


@dataclass(frozen=True)
class TextRecord:
    """One text, or two, and what is said of them."""

    text_a: str
    text_b: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class TextDataConfig(FineTuningDataConfig):
    """Tables with the columns text_a and, as wanted, text_b, label and qid."""

    columns: tuple[str, ...] = ()  # of tables without a header line, such as [label, _, text_a]
    max_text_length: int = 128  # tokens, [CLS] and [SEP] included; longer texts are cut
    masked_share: float = 0.0  # share of tokens that training shows as [MASK], drawn anew each time

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_text_length < 4:  # three marks and a [MASK]
            raise UserError(f"task.data.max_text_length is {self.max_text_length}; give at least 4")
        if not 0.0 <= self.masked_share < 1.0:
            raise UserError(
                f"task.data.masked_share is {self.masked_share}; give a share from 0 to below 1"
            )


class TextTask(FineTuningTask):
    """A task on such records; what it predicts is its own."""

    data: TextDataConfig
    pooling = "first"  # of tasks with a head; tasks/pooling.py
    inputs = TEXT_INPUTS

    def __init__(self, data: TextDataConfig, model: ModelConfig, assets_dir: Path) -> None:
        super().__init__(data, model, assets_dir)
        self.data = data
        if data.max_text_length > model.max_text_length:
            raise UserError(
                f"task.data.max_text_length is {data.max_text_length}, but model.max_positions "
                f"{model.max_positions} holds texts of {model.max_text_length} tokens; lower it"
            )

    def read(self, path: Path) -> Sequence[TextRecord]:
        """The rows of a table."""
        return read_table(
            path,
            self.parse,
            required=["text_a"],
            columns=self.data.columns,
            bad_record_limit=self.data.bad_record_limit,
        )

    def parse(self, item: Mapping[str, Any]) -> TextRecord:
        """A record from ``text_a`` and, where they are there, ``text_b`` and ``label``."""
        if "text_a" not in item:
            raise Fault(f"'text_a' is missing; found {', '.join(item) or 'nothing'}")
        text_a, text_b, label = item["text_a"], item.get("text_b") or None, item.get("label")
        check_text(text_a, "text_a")
        if text_b is not None:
            check_text(text_b, "text_b")
        if label is not None:
            label = str(label).strip()
            self.check_label(label)
        return TextRecord(text_a, text_b, label)

    @abstractmethod
    def check_label(self, label: str) -> None:
        """Raise a ``Fault`` for what is no label of the task."""

    def texts(self, record: TextRecord) -> Iterable[str]:
        """The text or the two texts."""
        return [record.text_a] if record.text_b is None else [record.text_a, record.text_b]

    def encode(self, record: TextRecord, rng: np.random.Generator | None = None) -> Sample:
        """``[CLS] a [SEP]`` or ``[CLS] a [SEP] b [SEP]``, for some poolings with a last [MASK]."""
        ids = [self.tokenizer.encode(text) for text in self.texts(record)]
        if rng is not None and self.data.masked_share:
            ids = [self._masked(text, rng) for text in ids]
        mark = mark_text if len(ids) == 1 else mark_pair
        return mark(
            *ids,
            self.data.max_text_length,
            first_position=self.model.first_position,
            last=last_ids(self.pooling, self.model),
        )

    def _masked(self, ids: Sequence[int], rng: np.random.Generator) -> list[int]:
        """The ids with some of them hidden, so that a text never looks the same twice."""
        is_hidden = rng.random(len(ids)) < self.data.masked_share
        return np.where(is_hidden, self.tokenizer.mask_id, ids).tolist()

    def is_labelled(self, record: TextRecord) -> bool:
        """Whether the row has a label."""
        return record.label is not None

    def original_order(self, count: int, epoch: int) -> np.ndarray:
        """Shuffled by a generator of each epoch's own."""
        return by_epoch(count, epoch)

    def length(self, record: TextRecord) -> int:
        """Characters: near enough to the number of tokens."""
        return sum(map(len, self.texts(record)))


def text_side(model: ModelConfig) -> dict[str, Side]:
    """What can be perturbed of a text: its embeddings."""
    text = Field("text_perturbation", (None, model.hidden_size), "float32")
    return {TEXT: Side(text, "text_mask")}
