"""What tasks that write text share: the service that writes, texts of records, their measures.

How likely the true target is stays their other service, for it costs one pass and no search.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor

from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.text import CLS_ID, Tokenizer
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.generation import bleu_of_counts, sentence_counts
from unimo_paddle.metrics.intervals import mean_with_interval, sums_of_groups, with_intervals
from unimo_paddle.metrics.rouge import rouge_l_coco
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.generation import Writer
from unimo_paddle.models.search import GenerationConfig, Vocabulary
from unimo_paddle.tasks.base import Arrays, Service, Tensors
from unimo_paddle.tasks.finetuning import FineTuningDataConfig, FineTuningTask, Prediction
from unimo_paddle.tasks.language import (
    LanguageConfig,
    LanguageNetwork,
    decode_likelihood,
    measure_likelihood,
    target_likelihood,
)
from unimo_paddle.tasks.segments import take

GENERATE = "generate"  # name of the service
# Tells draws of equal inputs apart; of no use to beams, which have no such field.
SEED = Field("seed", (), "int64", 0)
LARGEST_SEED = 2**32  # more bits do not count
WRITTEN_AT_ONCE = 32  # records of a batch


class WritingTask(FineTuningTask):
    """A task that writes a text for each record.

    Args:
        language: how targets are learnt.
        generation: how texts are written.
    """

    encoded: tuple[Field, ...]  # of a source with what is said of the target

    def __init__(
        self,
        data: FineTuningDataConfig,
        model: ModelConfig,
        assets_dir: Path,
        *,
        language: LanguageConfig,
        generation: GenerationConfig,
    ) -> None:
        super().__init__(data, model, assets_dir)
        # The length of a target counts its [CLS], as the positions do.
        room = model.max_text_length - 1
        longest = generation.max_length or min(language.max_target_length - 1, room)
        if longest > room:
            raise UserError(
                f"task.generation.max_length is {longest}, but model.max_positions "
                f"{model.max_positions} holds texts of {model.max_text_length} tokens with their "
                "first; lower it"
            )
        if generation.min_length >= longest:
            raise UserError(
                f"task.generation.min_length is {generation.min_length}, but texts end after "
                f"{longest} tokens; lower it"
            )
        self.language = language
        self.generation = replace(generation, max_length=longest)

    @property
    @abstractmethod
    def end_token(self) -> int:
        """The token that ends a text."""

    @abstractmethod
    def begin(self, record: Any, prefix: str = "") -> Sample:
        """What a text is written from: the record's source, and the beginning of the text."""

    def references(self, records: Sequence[Any]) -> dict[int, list[str]]:
        """The texts that are right, by the index of a record for which one is written."""
        return {
            index: [target]
            for index, record in enumerate(records)
            if (target := self.target_text(record)) is not None
        }

    @abstractmethod
    def target_text(self, record: Any) -> str | None:
        """The right text of a record, where it has one."""

    @property
    def services(self) -> tuple[Service, ...]:
        """How likely the target is, and the texts."""
        return (*super().services, Service(GENERATE, self.writing_inputs, self.write))

    @property
    def writing_inputs(self) -> tuple[Field, ...]:
        """The fields that texts are written from."""
        is_drawn = self.generation.search == "sample"
        return (*self.encoded, SEED) if is_drawn else tuple(self.encoded)

    def begin_target(
        self, source: Sample, prefix: str = "", *, first_position: int | None = None
    ) -> Sample:
        """The source with ``[CLS] prefix`` behind it.

        Args:
            first_position: of the [CLS]; by default the model's first.
        """
        ids = self.tokenizer.encode(prefix)
        first = self.model.first_position if first_position is None else first_position
        # Where positions go on, the source has taken some of them.
        room = self.model.max_positions - first - 1 - self.generation.max_length
        if len(ids) > room:
            raise UserError(
                f"a prefix of {len(ids)} tokens and task.generation.max_length "
                f"{self.generation.max_length} leave no room in model.max_positions "
                f"{self.model.max_positions}; shorten it to {room}"
            )
        begun = begin_target(source, ids, first_position=first)
        return begun | ({SEED.name: np.int64(0)} if SEED in self.writing_inputs else {})

    # ---- graph half

    def predict(self, network: LanguageNetwork, batch: Tensors) -> dict[str, Tensor]:
        """How likely each target is."""
        return target_likelihood(network(batch), batch)

    def write(self, network: LanguageNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The texts."""
        return write_texts(
            network,
            batch,
            self.generation,
            end_token=self.end_token,
            tokenizer=self.tokenizer if self.generation.block_word_trigrams else None,
        )

    # ---- measures

    def decode(self, outputs: Arrays) -> list[Prediction]:
        """How likely each target is."""
        return decode_likelihood(outputs)

    def decode_texts(self, outputs: Arrays, prefix: str = "") -> list[Prediction]:
        """The texts of each record, with the prefix that they were begun with."""
        given = self.tokenizer.encode(prefix)
        return decode_texts(outputs, self.tokenizer, end_token=self.end_token, given=given)

    def measure(
        self, predictions: Sequence[Prediction], records: Sequence[Any]
    ) -> dict[str, float]:
        """Nats a token and perplexity of the true targets."""
        groups = [self.group_of(record, place) for place, record in enumerate(records)]
        return measure_likelihood(predictions, groups)

    def texts_of(
        self, records: Sequence[Any], serve: Callable[[str, Stream], Arrays]
    ) -> dict[int, Prediction]:
        """What is written for each usable record, by its index."""

        def encode(record: Any, rng: np.random.Generator) -> Sample:
            begun = self.begin(record)
            # By one seed all records of equal contexts would draw by the same numbers.
            return begun | ({SEED.name: rng.integers(LARGEST_SEED)} if SEED.name in begun else {})

        stream = Stream("texts", records, encode, self.writing_inputs, WRITTEN_AT_ONCE)
        outputs = dict(serve(GENERATE, stream))
        indices = outputs.pop("index").tolist()
        return dict(zip(indices, self.decode_texts(outputs), strict=True))

    def predictions(self, split: str, serve: Callable[[str, Stream], Arrays]) -> list[Prediction]:
        """The text of each record of a split, and how likely its target is."""
        records = self.read_split(split)
        sources = [self.source_of(record, index) for index, record in enumerate(records)]
        firsts = {source: index for index, source in reversed([*enumerate(sources)])}
        written = self.texts_of([records[index] for index in firsts.values()], serve)
        texts = dict(zip(firsts, map(written.get, range(len(firsts))), strict=True))
        predictions = []
        for likely in super().predictions(split, serve):
            index = likely["index"]
            text = texts[sources[index]]
            if text is None:
                continue
            known = likely if self.is_labelled(records[index]) else {"index": index}
            predictions.append({"index": index, **text, **known})
        return predictions

    def source_of(self, record: Any, index: int) -> Hashable:
        """What a text is written from, equal for records that differ in their targets only."""
        return index

    def score(self, split: str, serve: Callable[[str, Stream], Arrays]) -> dict[str, float]:
        """How likely the targets are; how much written texts have in common with them."""
        if not self.labelled(split):
            return {}
        metrics = self.measure(*self._of_labelled(split, super().predictions(split, serve)))
        return metrics | self.score_texts(split, self.read_split(split), serve)

    def score_texts(
        self, split: str, records: Sequence[Any], serve: Callable[[str, Stream], Arrays]
    ) -> dict[str, float]:
        """What is written for the first records, compared with what is right."""
        references = self.references(records)
        chosen = list(references)[: self.language.written_records]
        if not chosen:
            return {}
        texts = self.texts_of([records[index] for index in chosen], serve)
        hypotheses = [made["text"] for made in texts.values()]
        right = [references[chosen[place]] for place in texts]
        written = [(records[chosen[place]], made["text"]) for place, made in texts.items()]
        groups = [self.group_of(records[chosen[place]], place) for place in texts]
        return {
            **self.compare_texts(hypotheses, right, groups),
            "written_texts": len(texts),
            **self.judge(split, written),
        }

    def group_of(self, record: Any, place: int) -> Hashable:
        """Equal for records that an interval draws together; by default each is drawn alone."""
        return place

    def compare_texts(
        self,
        hypotheses: Sequence[str],
        references: Sequence[Sequence[str]],
        groups: Sequence[Hashable] | None = None,
    ) -> dict[str, float]:
        """What texts [S] have in common with one or more references each.

        Args:
            groups: texts of equal groups are drawn together.
        """
        return self.compare(
            [words_of(text) for text in hypotheses],
            [[words_of(text) for text in texts] for texts in references],
            groups,
        )

    def compare(
        self,
        hypotheses: Sequence[Sequence[str]],
        references: Sequence[Sequence[Sequence[str]]],
        groups: Sequence[Hashable] | None = None,
    ) -> dict[str, float]:
        """BLEU and COCO's ROUGE-L of texts [S] with one or more references each, all in words."""
        bleu: dict[str, Callable[[np.ndarray], float]] = {
            "bleu_1": lambda counts: bleu_of_counts(counts).scores[0],
            "bleu_4": lambda counts: bleu_of_counts(counts).score,
            "length_ratio": lambda counts: bleu_of_counts(counts).length_ratio,
        }
        counts = sums_of_groups(groups, sentence_counts(hypotheses, references))
        common = rouge_l_coco(hypotheses, references)
        return with_intervals(bleu, *counts) | mean_with_interval("rouge_l_coco", common, groups)

    def judge(self, split: str, written: Sequence[tuple[Any, str]]) -> dict[str, float]:
        """What a task can say itself of texts that were written for records of a split."""
        return {}


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation: what BLEU and others compare."""
    return re.findall(r"\w+", text.lower())


def begin_target(source: Sample, ids: Sequence[int], *, first_position: int) -> Sample:
    """The source with ``[CLS] ids`` behind it: the beginning of the text that is written.

    Args:
        ids: words that the text begins with; mostly none.
        first_position: of the [CLS].
    """
    length = 1 + len(ids)
    behind = {
        "input_ids": np.array([CLS_ID, *ids], np.int64),
        "position_ids": np.arange(length) + first_position,
        "text_mask": np.ones(length, np.float32),
        "text_order": np.arange(1, length + 1),
        "role_ids": np.zeros(length, np.int64),
        "turn_ids": np.zeros(length, np.int64),
    }
    return {name: np.concatenate([value, behind[name]]) for name, value in source.items()}


def write_texts(
    network: LanguageNetwork,
    batch: Tensors,
    config: GenerationConfig,
    *,
    end_token: int,
    tokenizer: Tokenizer | None = None,
    forbidden: Sequence[int] = (),
) -> dict[str, Tensor]:
    """Write texts: ``tokens`` [B, N, T], ``scores`` [B, N] and ``step_scores`` [B, N, T].

    Args:
        tokenizer: knows words; asked only where whole words must not repeat.
    """
    opens_word = None
    if config.block_word_trigrams:
        assert tokenizer is not None, "whole words need a tokenizer"
        opens_word = tokenizer.opens_word & ~tokenizer.is_special
    vocabulary = Vocabulary(network.vocab_size, end_token, tuple(forbidden), opens_word)
    encoding = network.transformer(**take(batch, network.inputs))
    writer = Writer(network.transformer, network.head, config, vocabulary)
    texts = writer.write(
        encoding,
        batch["input_ids"],
        batch["position_ids"],
        batch["text_mask"],
        batch["text_order"],
        batch.get(SEED.name),
    )
    return texts._asdict()


def decode_texts(
    outputs: Arrays, tokenizer: Tokenizer, *, end_token: int, given: Sequence[int] = ()
) -> list[Prediction]:
    """The texts of each sample: ``text`` and ``score`` of the first, and all where there are more.

    Those of a beam come best first, and drawn ones as they were drawn.

    Args:
        given: the tokens that all texts were begun with.
    """
    predictions = []
    for tokens, scores in zip(outputs["tokens"], outputs["scores"], strict=True):
        if np.isnan(scores).any():
            raise UserError(
                "a text has no score (NaN), so the weights are broken; choose an earlier checkpoint"
            )
        texts = [text_of_ids(row, tokenizer, end_token=end_token, given=given) for row in tokens]
        prediction = {"text": texts[0], "score": float(scores[0])}
        if len(texts) > 1:
            prediction |= {"texts": texts, "scores": [float(score) for score in scores]}
        predictions.append(prediction)
    return predictions


def ids_before_end(tokens: np.ndarray, end_token: int) -> np.ndarray:
    """The tokens [T] of a text up to its end."""
    ends = np.flatnonzero(tokens == end_token)
    return tokens[: ends[0]] if len(ends) else tokens


def text_of_ids(
    tokens: np.ndarray, tokenizer: Tokenizer, *, end_token: int, given: Sequence[int] = ()
) -> str:
    """The text up to its end, without special tokens, white space collapsed."""
    return " ".join(tokenizer.decode([*given, *ids_before_end(tokens, end_token)]).split())
