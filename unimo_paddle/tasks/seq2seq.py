"""Text from text: summaries, headlines, questions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor

from unimo_paddle.adversarial import TEXT, AdversarialConfig, PerturbedLoss
from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.records import Fault, check_text
from unimo_paddle.data.sequences import append_target, mark_source
from unimo_paddle.data.tables import ID_COLUMN, UNNAMED_COLUMN, read_table
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.intervals import mean_with_interval
from unimo_paddle.metrics.rouge import F_MEASURE, rouge
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.search import GenerationConfig
from unimo_paddle.tasks.base import Arrays, TaskConfig, Tensors
from unimo_paddle.tasks.classification import check_sides
from unimo_paddle.tasks.finetuning import FineTuningDataConfig, Prediction, with_ids
from unimo_paddle.tasks.language import (
    LanguageConfig,
    LanguageNetwork,
    language_terms,
    perturbed_language,
)
from unimo_paddle.tasks.segments import TARGETS, TEXT_INPUTS, TEXT_ORDER
from unimo_paddle.tasks.text_records import text_side
from unimo_paddle.tasks.writing import WritingTask

TARGET_COLUMN = "tgt"
NOT_SOURCES = (TARGET_COLUMN, ID_COLUMN, UNNAMED_COLUMN)


@dataclass(frozen=True)
class SourceRecord:
    """What a text is written from, and that text."""

    sources: tuple[str, ...]
    target: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class SourceDataConfig(FineTuningDataConfig):
    """Tables with a column ``tgt``; all others but ``qid``, in order, are the source."""

    columns: tuple[str, ...] = ()  # of tables without a header line, such as [src, tgt]
    max_source_length: int = 512  # tokens of a source column; longer ones are cut
    is_tokenized: bool = False  # cells hold BPE ids (of encoder.json) instead of text
    continuous_positions: bool = False  # of source and target together; else each starts anew

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_source_length < 3:
            raise UserError(
                f"task.data.max_source_length is {self.max_source_length}; give at least 3"
            )


@TaskConfig.register_subclass("seq2seq")
@dataclass(frozen=True)
class Seq2SeqConfig(TaskConfig):
    """A text for each source."""

    data: SourceDataConfig = field(default_factory=SourceDataConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    adversarial: AdversarialConfig = field(default_factory=lambda: AdversarialConfig(sides=TEXT))

    def __post_init__(self) -> None:
        check_sides(self.adversarial)

    def build(self, model: ModelConfig, assets_dir: Path) -> Seq2SeqTask:
        """Make the task for a model of these sizes."""
        return Seq2SeqTask(self, model, assets_dir)


class Seq2SeqTask(WritingTask):
    """Writes a target after its source."""

    encoded: tuple[Field, ...] = (*TEXT_INPUTS, TEXT_ORDER)
    targets = ()

    def __init__(self, config: Any, model: ModelConfig, assets_dir: Path) -> None:
        super().__init__(
            config.data,
            model,
            assets_dir,
            language=config.language,
            generation=config.generation,
        )
        self.config = config
        self.data = config.data
        # A target is part of what is encoded.
        self.inputs = (*self.encoded, *TARGETS)
        longest = config.language.max_target_length
        if longest > model.max_text_length or self.data.max_source_length > model.max_text_length:
            raise UserError(
                f"model.max_positions {model.max_positions} holds texts of {model.max_text_length} "
                f"tokens, less than max_source_length {self.data.max_source_length} or "
                f"max_target_length {longest}; raise it or lower them"
            )
        needed = self.data.max_source_length + max(longest, 1 + self.generation.max_length)
        if self.data.continuous_positions and needed > model.max_text_length:
            raise UserError(
                f"model.max_positions {model.max_positions} holds {model.max_text_length} tokens, "
                "but with task.data.continuous_positions a source of "
                f"{self.data.max_source_length} and its target take {needed}; lower "
                "task.data.max_source_length"
            )

    # ---- host half

    def read(self, path: Path) -> Sequence[Any]:
        """The rows of a table."""
        return read_table(
            path,
            self.parse,
            required=(),
            columns=self.data.columns,
            bad_record_limit=self.data.bad_record_limit,
        )

    def parse(self, item: Mapping[str, Any]) -> SourceRecord:
        """A record from ``tgt``, where it is there, and the source columns."""
        given = {name: value for name, value in item.items() if name not in NOT_SOURCES}
        if not given:
            raise Fault(f"no column of a source, only {', '.join(item) or 'nothing'}")
        for name, value in given.items():
            if not isinstance(value, str | int | float) or isinstance(value, bool):
                raise Fault(f"'{name}' must be text, not {str(value)[:40]!r}")
        sources = tuple(map(str, given.values()))
        target = item.get(TARGET_COLUMN)
        if target is not None:
            check_text(target, TARGET_COLUMN)
        for text in (*sources, *([] if target is None else [target])):
            self.check_ids(text)
        return SourceRecord(sources, target, id_of_row(item))

    def predictions(self, split: str, serve: Callable[..., Arrays]) -> list[Prediction]:
        """As every task's that writes, with the ``id`` of a record that has one."""
        return with_ids(super().predictions(split, serve), self.read_split(split))

    def check_ids(self, text: str) -> None:
        """Raise a ``Fault`` for a cell that should hold BPE ids and does not."""
        if self.data.is_tokenized:
            for word in text.split():
                if not (word.isascii() and word.isdigit()):
                    raise Fault(f"{word[:40]!r} is no BPE id, though task.data.is_tokenized is set")

    def texts(self, record: SourceRecord) -> Iterable[str]:
        """Source and target."""
        return [*record.sources, *([] if record.target is None else [record.target])]

    def ids(self, text: str) -> list[int]:
        """The ids of a cell."""
        if self.data.is_tokenized:
            return self.tokenizer.rows_of(map(int, text.split()))
        return self.tokenizer.encode(text)

    def encode_source(self, record: Any) -> Sample:
        """The source, before a target is appended."""
        return mark_source(
            [self.ids(text) for text in record.sources],
            self.data.max_source_length,
            first_position=self.model.first_position,
            is_continuous=self.data.continuous_positions,
        )

    def encode(self, record: Any, rng: np.random.Generator | None = None) -> Sample:
        """Source and target; a target that is missing is empty."""
        source = self.encode_source(record)
        return append_target(
            source,
            self.ids(record.target or ""),
            self.config.language.max_target_length,
            end_id=self.end_token,
            first_position=self._first_of_target(source),
        )

    def begin(self, record: Any, prefix: str = "") -> Sample:
        """The source and the target's beginning."""
        source = self.encode_source(record)
        return self.begin_target(source, prefix, first_position=self._first_of_target(source))

    def _first_of_target(self, source: Sample) -> int:
        before = len(source["input_ids"]) if self.data.continuous_positions else 0
        return self.model.first_position + before

    @property
    def end_token(self) -> int:
        """[MASK], as in the original."""
        return self.tokenizer.mask_id

    def target_text(self, record: Any) -> str | None:
        """The target in words."""
        if record.target is None or not self.data.is_tokenized:
            return record.target
        return self.tokenizer.decode(self.ids(record.target))

    def encode_targets(self, record: Any) -> Sample:
        """Nothing: the target is part of what is encoded."""
        return {}

    def compare_texts(
        self,
        hypotheses: Sequence[str],
        references: Sequence[Sequence[str]],
        groups: Sequence[Hashable] | None = None,
    ) -> dict[str, float]:
        """BLEU, COCO's ROUGE-L, and the F-measures of ROUGE-1.5.5 with stemming."""
        metrics = super().compare_texts(hypotheses, references, groups)
        for name, values in rouge(hypotheses, references).items():
            metrics |= mean_with_interval(name, values[:, F_MEASURE], groups)
        return metrics

    def is_labelled(self, record: Any) -> bool:
        """Whether the record has a target."""
        return record.target is not None

    def length(self, record: Any) -> int:
        """Characters: near enough to the number of tokens."""
        return sum(map(len, self.texts(record)))

    # ---- graph half

    def build_network(self) -> LanguageNetwork:
        """Make the Transformer with the language head."""
        return LanguageNetwork(self.model, self.encoded, with_images=False)

    def loss(self, network: LanguageNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The smoothed cross entropy of the target's words."""
        return language_terms(network(batch), batch, self.config.language)

    def perturbed_loss(self) -> PerturbedLoss | None:
        """The same loss of perturbed inputs too, where that is configured."""
        return perturbed_language(
            self.config.adversarial, text_side(self.model), self.config.language
        )


def id_of_row(item: Mapping[str, Any]) -> str | None:
    """The ``qid`` of a row, where it has one."""
    value = item.get(ID_COLUMN)
    return None if value is None else str(value)
