"""Texts whose words are drawn: by temperature, among the likeliest, by a seed."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor
from paddle.nn import functional as F

from unimo_paddle.models.search import (
    IMPOSSIBLE,
    NO_TOKEN,
    Choice,
    Search,
    Texts,
    append,
    both,
    nothing_yet,
)

_BITS = 32


class Sampling(Search):
    """Each text goes its own way. The state: history, step scores, scores, finished, seeds.

    A text's score is the log-probability of what was drawn by the model as it is.
    """

    def start(self, context: Tensor, seeds: Tensor | None = None) -> list[Tensor]:
        """All texts with the context; seeds [B] int64 tell samples with equal contexts apart."""
        history = self._history(context)
        nothing = paddle.zeros_like(history[..., 0])
        numbers = paddle.cumsum(paddle.ones_like(nothing), axis=1)
        seeds = nothing if seeds is None else nothing + seeds.unsqueeze(1)
        # Places are counted from the end, where contexts end alike, and nothing said adds nothing:
        # how far a batch pads its contexts must not change what is drawn.
        ones = paddle.ones_like(history)
        places = ones.sum(axis=-1, keepdim=True) - paddle.cumsum(ones, axis=-1) + 1
        said = places * (history - NO_TOKEN)
        seeds = scramble(scramble(seeds) + scramble(said.sum(axis=-1)) + numbers)
        return [
            history,
            nothing_yet(history).astype("float32"),
            nothing.astype("float32"),
            nothing > 0,
            seeds,
        ]

    def choose(self, logits: Tensor, step: Tensor, state: Sequence[Tensor]) -> Choice:
        """A word for each text; a finished one repeats its end."""
        history, step_scores, scores, finished, seeds = state
        logits = self._allowed(logits)
        normal = logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
        repeated = both(self._repeated_ngrams(history), self._repeated_words(history))
        candidates, _ = self._adjusted(normal, history, repeated)
        tokens = self._draw(self._warmed(candidates, step), seeds + step)
        end = paddle.full_like(tokens, self.vocabulary.end_token)
        tokens = paddle.where(finished, end, tokens)
        gained = paddle.take_along_axis(normal, tokens.unsqueeze(-1), axis=-1).squeeze(-1)
        scores = paddle.where(finished, scores, scores + gained)
        parents = paddle.cumsum(paddle.ones_like(tokens), axis=1) - 1
        return Choice(
            tokens,
            parents,
            [
                append(history, tokens),
                append(step_scores, scores),
                scores,
                finished | (tokens == end),
                seeds,
            ],
        )

    def _warmed(self, logits: Tensor, step: Tensor) -> Tensor:
        """Logits by temperature, without an end that comes too early."""
        if self.config.min_length:
            is_end = paddle.arange(self.vocabulary.size) == self.vocabulary.end_token
            is_early = is_end & (step < self.config.min_length)
            logits = paddle.where(is_early, paddle.full_like(logits, IMPOSSIBLE), logits)
        return logits / self.config.temperature

    def _draw(self, logits: Tensor, seeds: Tensor) -> Tensor:
        """A token [B, K] by logits [B, K, V], among the likeliest."""
        size, top_k = self.vocabulary.size, self.config.top_k
        kept = min(top_k, size) if top_k else size
        logits, tokens = paddle.topk(logits, kept, axis=-1)
        shares = F.softmax(logits)
        if self.config.top_p < 1.0:
            before = paddle.cumsum(shares, axis=-1) - shares
            shares = paddle.where(before < self.config.top_p, shares, paddle.zeros_like(shares))
        total = paddle.cumsum(shares, axis=-1)
        place = uniform(seeds).unsqueeze(-1) * total[..., -1:]
        index = (total <= place).astype("int64").sum(axis=-1, keepdim=True)
        last = (shares > 0).astype("int64").sum(axis=-1, keepdim=True) - 1  # rounding
        index = paddle.minimum(index, last)
        return paddle.take_along_axis(tokens, index, axis=-1).squeeze(-1)

    def is_done(self, state: Sequence[Tensor]) -> Tensor:
        """Whether all texts are finished."""
        return state[3].all()

    def finish(self, state: Sequence[Tensor], num_context: Tensor) -> Texts:
        """The texts in the order of their numbers."""
        history, step_scores, scores = state[:3]
        return Texts(history[..., num_context:], scores, step_scores)


def scramble(numbers: Tensor) -> Tensor:
    """Numbers of 32 bits that look random, of int64; equal ones of equal ones.

    Chris Wellons' integer hash with the constants 0x21f0aaad and 0x735a2d97, whose products stay
    below 2^63.
    """
    x = numbers % (1 << _BITS)
    x = _mixed(x, 16) * 0x21F0AAAD % (1 << _BITS)
    x = _mixed(x, 15) * 0x735A2D97 % (1 << _BITS)
    return _mixed(x, 15)


def _mixed(x: Tensor, shift: int) -> Tensor:
    return paddle.bitwise_xor(x, x // (1 << shift))


def uniform(numbers: Tensor) -> Tensor:
    """Random numbers from 0 to below 1, float32, of int64 ones."""
    return (scramble(numbers) // (1 << 8)).astype("float32") / float(1 << (_BITS - 8))
