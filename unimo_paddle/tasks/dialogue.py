"""Answers in a dialogue about a passage: CoQA."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unimo_paddle.adversarial import TEXT, AdversarialConfig
from unimo_paddle.data.fields import Sample
from unimo_paddle.data.records import Fault, check_text
from unimo_paddle.data.sequences import mark_dialogue
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.coqa import answer_scores
from unimo_paddle.metrics.intervals import mean_with_interval
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.search import GenerationConfig
from unimo_paddle.tasks.base import TaskConfig
from unimo_paddle.tasks.classification import check_sides
from unimo_paddle.tasks.language import LanguageConfig
from unimo_paddle.tasks.segments import DIALOGUE_INPUTS, TEXT_INPUTS, TEXT_ORDER
from unimo_paddle.tasks.seq2seq import (
    TARGET_COLUMN,
    Seq2SeqTask,
    SourceDataConfig,
    id_of_row,
)

NUM_ROLES = 3  # who answers, who asks, what is known
TURN_SEPARATOR = " [SEP] "
ANSWERS_COLUMN = "answers"  # JSON of what all people answered, in tables to measure on


@dataclass(frozen=True)
class DialogueRecord:
    """What is known, what was said, and the answer.

    Args:
        turns: oldest first.
        answers: of all people, the target among them; in words, also where cells hold BPE ids.
    """

    knowledge: str
    turns: tuple[str, ...]
    target: str | None = None
    id: str | None = None
    answers: tuple[str, ...] = ()


@TaskConfig.register_subclass("dialogue")
@dataclass(frozen=True)
class DialogueConfig(TaskConfig):
    """An answer to the last turn of a dialogue; tables have knowledge, src and tgt."""

    data: SourceDataConfig = field(default_factory=SourceDataConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    adversarial: AdversarialConfig = field(default_factory=lambda: AdversarialConfig(sides=TEXT))

    def __post_init__(self) -> None:
        check_sides(self.adversarial)

    def build(self, model: ModelConfig, assets_dir: Path) -> DialogueTask:
        """Make the task for a model with embeddings of roles and turns."""
        return DialogueTask(self, model, assets_dir)


class DialogueTask(Seq2SeqTask):
    """As ``Seq2SeqTask``, the source being a passage and the last turns of a dialogue."""

    encoded = (*TEXT_INPUTS, TEXT_ORDER, *DIALOGUE_INPUTS)

    def __init__(self, config: DialogueConfig, model: ModelConfig, assets_dir: Path) -> None:
        super().__init__(config, model, assets_dir)
        if model.num_roles < NUM_ROLES or model.num_turns < 2:
            raise UserError(
                f"model.num_roles is {model.num_roles} and model.num_turns {model.num_turns}; a "
                f"dialogue needs at least {NUM_ROLES} and 2, the original has 3 and 16"
            )

    def parse(self, item: Mapping[str, Any]) -> DialogueRecord:
        """A record from ``src`` (turns joined by ``[SEP]``) and, if there, the other columns."""
        if "src" not in item:
            raise Fault(f"'src' is missing; found {', '.join(item) or 'nothing'}")
        knowledge, target = item.get("knowledge") or "", item.get(TARGET_COLUMN)
        check_text(item["src"], "src")
        if not isinstance(knowledge, str):
            raise Fault(f"'knowledge' must be text, not {str(knowledge)[:40]!r}")
        if target is not None:
            check_text(target, TARGET_COLUMN)
        turns = tuple(item["src"].split(TURN_SEPARATOR))
        for text in (knowledge, *turns, target or ""):
            self.check_ids(text)
        answers = _parse_answers(item[ANSWERS_COLUMN]) if item.get(ANSWERS_COLUMN) else ()
        return DialogueRecord(knowledge, turns, target, id_of_row(item), answers)

    def texts(self, record: DialogueRecord) -> Iterable[str]:
        """What is known, what was said, and the answer."""
        return [record.knowledge, *record.turns, *([record.target] if record.target else [])]

    def group_of(self, record: DialogueRecord, place: int) -> Hashable:
        """What is known: answers about one passage succeed and fail together."""
        return record.knowledge or place

    def judge(self, split: str, written: Sequence[tuple[DialogueRecord, str]]) -> dict[str, float]:
        """F1 and exact match by CoQA's rules, which compare with what each person answered."""
        groups = [self.group_of(record, place) for place, (record, _) in enumerate(written)]
        answers = [record.answers or (self.target_text(record) or "",) for record, _ in written]
        metrics: dict[str, float] = {}
        for name, values in answer_scores([text for _, text in written], answers).items():
            metrics |= mean_with_interval(f"answer_{name}", values, groups)
        return metrics

    def encode_source(self, record: DialogueRecord) -> Sample:
        """What is known and the last turns."""
        return mark_dialogue(
            self.ids(record.knowledge),
            [self.ids(turn) for turn in record.turns[1 - self.model.num_turns :]],
            self.data.max_source_length,
            first_position=self.model.first_position,
            is_continuous=self.data.continuous_positions,
        )


def _parse_answers(cell: Any) -> tuple[str, ...]:
    try:
        answers = json.loads(cell) if isinstance(cell, str) else cell
    except (ValueError, RecursionError):
        answers = None
    if not isinstance(answers, list) or not answers or {*map(type, answers)} != {str}:
        raise Fault(f"'{ANSWERS_COLUMN}' must be a JSON list of texts, not {str(cell)[:40]!r}")
    return tuple(answers)
