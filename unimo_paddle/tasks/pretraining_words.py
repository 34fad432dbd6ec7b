"""The texts of pre-training: their marks, and what is hidden of their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.masking import fragment, mask_spans
from unimo_paddle.data.text import Tokenizer
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.pretraining_fields import hidden_text_inputs, text_targets
from unimo_paddle.tasks.pretraining_settings import ObjectiveWeights, PretrainingDataConfig


class WordTargets:
    """Marks texts and hides words of them.

    Args:
        uses_language: whether hidden words are predicted; otherwise none is hidden.
    """

    def __init__(
        self,
        config: PretrainingDataConfig,
        model: ModelConfig,
        *,
        weights: ObjectiveWeights,
        uses_language: bool,
    ) -> None:
        self._masking = config.text_masking
        self._weights = weights
        self._uses_language = uses_language
        self._first_position = model.first_position
        self._room = min(config.max_text_length, model.max_text_length) - 2  # [CLS] and [SEP]

    def fields(self) -> tuple[Field, ...]:
        """What is read of a text, and what is predicted of it."""
        return text_targets() if self._uses_language else hidden_text_inputs()

    @property
    def _max_fragments(self) -> int:
        """Fragments whose two marks each take at most a quarter of the room, and one always."""
        return max(1, min(self._masking.max_fragments, self._room // 8))

    @property
    def fragment_room(self) -> int:
        """Tokens of a text that may be cut into fragments, whose marks take the rest."""
        return self._room - 2 * self._max_fragments

    def mark(self, ids: Sequence[int], tokenizer: Tokenizer) -> Sample:
        """A text alone: [CLS] words [SEP]."""
        ids = np.array([tokenizer.cls_id, *ids[: self._room], tokenizer.sep_id], np.int64)
        positions = np.arange(len(ids)) + self._first_position
        mask = np.ones(len(ids), np.float32)
        return {"input_ids": ids, "position_ids": positions, "text_mask": mask}

    def hide(self, ids: Sequence[int], tokenizer: Tokenizer, rng: np.random.Generator) -> Sample:
        """Spans or fragments with equal chances, or the one that has a weight, or nothing."""
        if not self._uses_language:
            whole = self.mark(ids, tokenizer)
            order = np.zeros(len(whole["input_ids"]), np.int64)
            return _as_hidden(whole["input_ids"], whole["position_ids"], order)
        opens_word, weights = tokenizer.opens_word, self._weights
        masking = replace(self._masking, max_fragments=self._max_fragments)
        share = weights.seq2seq_language and (0.5 if weights.masked_language else 1.0)
        if rng.random() < share:
            ids = ids[: self.fragment_room]
            text = fragment(ids, opens_word, rng, masking, first_position=self._first_position)
            found = _as_hidden(text.input_ids, text.position_ids, text.text_order)
            is_seq2seq = 1.0
        else:
            tokens = np.flatnonzero(~tokenizer.is_special)
            text = mask_spans(ids[: self._room], opens_word, rng, masking, tokens=tokens)
            positions = np.arange(len(text.input_ids)) + self._first_position
            found = _as_hidden(text.input_ids, positions, np.zeros_like(positions))
            is_seq2seq = 0.0
        num_predicted = len(text.positions)
        return found | {
            "hidden_text_positions": text.positions,
            "hidden_text_labels": text.labels,
            "hidden_text_weights": np.ones(num_predicted, np.float32),
            "hidden_text_seq2seq": np.full(num_predicted, is_seq2seq, np.float32),
        }


def _as_hidden(ids: np.ndarray, positions: np.ndarray, order: np.ndarray) -> Sample:
    return {
        "hidden_text_input_ids": ids,
        "hidden_text_position_ids": positions,
        "hidden_text_mask": np.ones(len(ids), np.float32),
        "hidden_text_text_order": order,
    }
