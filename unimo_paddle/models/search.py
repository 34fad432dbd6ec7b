"""What is written next: beam search by two rules, and sampling.

A search holds texts in the making as tensors [B, K, ...]: K texts of each of B samples. It is given
logits and answers with the next words and with the text that each of them continues. How its
state moves on is up to it; what the network keeps for it is the business of ``generation``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import paddle
from paddle import Tensor

from unimo_paddle.errors import UserError
from unimo_paddle.models.repetition import repeated_ngrams, repeated_words
from unimo_paddle.ops.beam_search import RULES

SEARCHES = ("beam", "sample")
NOTHING = -1.0e30  # the score of a hypothesis that is not there
IMPOSSIBLE = -1.0e9  # the logit of a token that is not written
NO_TOKEN = -1  # in the place of a token; equal to none


@dataclass(frozen=True)
class GenerationConfig:
    """How texts are written."""

    search: str = "beam"  # beam, or sample: draw each word
    beam_size: int = 4  # texts that are followed at a time; 1 is greedy
    rule: str = "original"  # of beams: original, or 2k as PaddleNLP and Hugging Face have it
    length_penalty: float = 0.6  # exponent of the length that scores are divided by
    early_stopping: bool = False  # rule 2k: stop as soon as there are beam_size texts
    min_length: int = 0  # tokens before the end may come
    max_length: int = 0  # tokens of a text, the end included; 0: as the targets of training
    no_repeat_ngram_size: int = 0  # sequences of so many tokens come once; 0: as often as they like
    block_word_trigrams: bool = False  # sequences of three whole words come once
    repetition_penalty: float = 1.0  # what the log-probability of used tokens is multiplied by
    repeats_include_source: bool = False  # what the source says counts as said (PaddleNLP)
    num_texts: int = 1  # returned of each sample; of sampling, drawn
    temperature: float = 1.0  # of sampling: below 1 the likely becomes likelier
    top_k: int = 0  # of sampling: only the so many likeliest tokens; 0: all
    top_p: float = 1.0  # of sampling: only the likeliest tokens that together have this probability

    def __post_init__(self) -> None:
        for name, known in (("search", SEARCHES), ("rule", RULES)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"generation.{name} is {getattr(self, name)!r}; choose one of "
                    f"{', '.join(known)}"
                )
        for name, low in _LOWER_BOUNDS.items():
            if not getattr(self, name) >= low:
                raise UserError(f"generation.{name} is {getattr(self, name)}; give at least {low}")
        for name in ("temperature", "repetition_penalty"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise UserError(
                    f"generation.{name} is {getattr(self, name)}; give a number above 0"
                )
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"generation.top_p is {self.top_p}; give a share above 0, at most 1")
        if self.max_length and self.min_length >= self.max_length:
            raise UserError(
                f"generation.min_length {self.min_length} leaves no room for an end in "
                f"max_length {self.max_length}; lower it"
            )
        for name, usual in _OF_SAMPLING.items():
            if self.search == "beam" and getattr(self, name) != usual:
                raise UserError(
                    f"generation.{name} is {getattr(self, name)}, but search beam draws nothing; "
                    "leave it out, or set generation.search to sample"
                )
        if self.search == "beam" and self.num_texts > self.beam_size:
            raise UserError(
                f"generation.num_texts is {self.num_texts}, but beam_size is {self.beam_size}; "
                "raise beam_size"
            )
        if self.search == "beam" and self.rule == "original" and self.early_stopping:
            raise UserError(
                "generation.early_stopping is of rule 2k; by rule original finished texts stay "
                "among the beams until all are finished"
            )

    @property
    def num_rows(self) -> int:
        """Texts of a sample that are followed at a time."""
        return self.beam_size if self.search == "beam" else self.num_texts


_OF_SAMPLING = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
_LOWER_BOUNDS = {
    "beam_size": 1,
    "min_length": 0,
    "max_length": 0,
    "no_repeat_ngram_size": 0,
    "num_texts": 1,
    "top_k": 0,
}


class Vocabulary(NamedTuple):
    """What a search must know of the tokens.

    Args:
        size: V.
        end_token: ends a text.
        forbidden: tokens that are never written.
        opens_word: [V] bool, for whole words; None where no word is asked for.
    """

    size: int
    end_token: int
    forbidden: tuple[int, ...] = ()
    opens_word: np.ndarray | None = None


class Choice(NamedTuple):
    """What a search chose in one step."""

    tokens: Tensor  # [B, K] int64: the words that are written
    parents: Tensor  # [B, K] int64: the text that each continues, 0 .. K - 1 of its sample
    state: list[Tensor]  # the state that goes with the next step


class Texts(NamedTuple):
    """What was written: N texts of each sample, best first, or as they were drawn."""

    tokens: Tensor  # [B, N, T] int64; behind an end token, more of them
    scores: Tensor  # [B, N] float32
    step_scores: Tensor  # [B, N, T] float32: the score after each token


def append(values: Tensor, new: Tensor) -> Tensor:
    """Values [B, K, t] with new [B, K] behind them."""
    return paddle.concat([values, new.unsqueeze(-1)], axis=-1)


def nothing_yet(values: Tensor) -> Tensor:
    """An empty last axis behind values [B, K, t], of a length that the graph takes for open."""
    zero = paddle.zeros([1], "int64")
    return values[..., :zero]


class Search(ABC):
    """One way to write; its state is a list of tensors, the history first.

    The history [B, K, C + t] holds the C tokens of a context that count as said, NO_TOKEN in the
    place of others, and the t tokens that were written.
    """

    def __init__(self, config: GenerationConfig, vocabulary: Vocabulary) -> None:
        self.config = config
        self.vocabulary = vocabulary

    @abstractmethod
    def start(self, context: Tensor) -> list[Tensor]:
        """The state before the first step, from a context [B, C]."""

    @abstractmethod
    def choose(self, logits: Tensor, step: Tensor, state: Sequence[Tensor]) -> Choice:
        """Choose the next words by logits [B, K, V]; step [1] counts from 0."""

    @abstractmethod
    def is_done(self, state: Sequence[Tensor]) -> Tensor:
        """Whether nothing is left to write: bool []."""

    @abstractmethod
    def finish(self, state: Sequence[Tensor], num_context: Tensor) -> Texts:
        """The texts of a state; its history begins with so many tokens of the context."""

    def _history(self, context: Tensor) -> Tensor:
        return context.unsqueeze(1).tile([1, self.config.num_rows, 1])

    def _allowed(self, logits: Tensor) -> Tensor:
        """Logits without what is never written."""
        if not self.vocabulary.forbidden:
            return logits
        bias = np.zeros(self.vocabulary.size, np.float32)
        bias[list(self.vocabulary.forbidden)] = IMPOSSIBLE
        return logits + paddle.to_tensor(bias)

    def _repeated_ngrams(self, history: Tensor) -> Tensor | None:
        """Tokens [B, K, n] that would end a sequence of tokens again; None: all may."""
        size = self.config.no_repeat_ngram_size
        return repeated_ngrams(history, size) if size else None

    def _repeated_words(self, history: Tensor) -> Tensor | None:
        """Tokens [B, K, n] that would end a sequence of three words again; None: all may."""
        if not self.config.block_word_trigrams:
            return None
        assert self.vocabulary.opens_word is not None, "whole words need to be known"
        return repeated_words(history, paddle.to_tensor(self.vocabulary.opens_word))

    def _adjusted(
        self, logits: Tensor, history: Tensor, blocked: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits with less for used tokens and nothing for blocked ones, and what they sum up to.

        The log-probability of a used token is multiplied by ``repetition_penalty``, and the others
        stay as they are; so they no longer add up to one. A log-softmax makes them do so: the
        second tensor [B, K] is what it takes away from each. None: nothing was changed.
        """
        penalty = self.config.repetition_penalty
        if penalty == 1.0 and blocked is None:
            return logits, None
        logits = logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
        if penalty != 1.0:
            logits = paddle.where(self._is_among(history), logits * penalty, logits)
        if blocked is not None:
            impossible = paddle.full_like(logits, IMPOSSIBLE)
            logits = paddle.where(self._is_among(blocked), impossible, logits)
        return logits, paddle.logsumexp(logits, axis=-1)

    def _is_among(self, tokens: Tensor) -> Tensor:
        """Which of the vocabulary are among tokens [B, K, n]: bool [B, K, V]."""
        size = self.vocabulary.size
        places = paddle.where(tokens < 0, paddle.full_like(tokens, size), tokens)
        nothing = paddle.zeros_like(tokens[..., :1], dtype="float32").tile([1, 1, size + 1])
        return paddle.put_along_axis(nothing, places, 1.0, 2)[..., :size] > 0.5


def both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """The tokens of both, where there are any."""
    if first is None or second is None:
        return second if first is None else first
    return paddle.concat([first, second], axis=-1)
