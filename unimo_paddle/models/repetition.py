"""Which tokens would repeat what a text has said: sequences of tokens, and of whole words.

Texts are histories [B, K, n] of tokens; -1 stands where nothing is said. What is returned are
tokens [B, K, m], -1 for none. Everything is computed anew from the tokens, by a few operations on
small integers, so that a search has no state to keep for it.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor

NONE = -1
LONGEST_HISTORY = 4096  # tokens
# A word is known by a sum of its tokens, each times a random number of its place in the word: two
# different words of a text have the same sum once in 10^10.
_FACTORS = np.random.RandomState(0).randint(1 << 20, 1 << 34, LONGEST_HISTORY)


def repeated_ngrams(history: Tensor, size: int) -> Tensor:
    """The tokens that would end a sequence of ``size`` tokens for the second time."""
    if size == 1:
        return history
    padding = paddle.full_like(history[..., :1], NONE).tile([1, 1, size - 1])
    padded = paddle.concat([padding, history], axis=-1)  # so that every token ends a sequence
    length = paddle.shape(padded)[2]
    is_repeated = history >= 0
    for place in range(size - 1):
        earlier = padded[..., place : length - (size - 1) + place]
        last = padded[..., length - (size - 1) + place].unsqueeze(-1)
        is_repeated = is_repeated & (earlier == last) & (earlier >= 0)
    return paddle.where(is_repeated, history, paddle.full_like(history, NONE))


def repeated_words(history: Tensor, opens_word: Tensor) -> Tensor:
    """The tokens by which three words, the last as far as it goes, come a second time.

    A token opens a word or continues the one before; the first of a text opens one. A word that an
    opening token begins repeats one that is that token alone; a word that is continued repeats one
    that is longer by that token.

    Args:
        opens_word: [V] bool.
    """
    is_said = history >= 0
    tokens = paddle.where(is_said, history, paddle.zeros_like(history))
    opens = paddle.gather(opens_word, tokens.flatten()).reshape(paddle.shape(tokens))
    is_first = is_said & ~_shifted(is_said)
    opens = is_said & (opens | is_first)
    words = _Words(tokens, opens)
    is_end = is_said & paddle.concat([opens[..., 1:], paddle.ones_like(is_said[..., :1])], axis=-1)

    def last(numbers: Tensor) -> Tensor:
        return numbers[..., -1:]

    # The word at a token, the one before it and the one before that: what ended there.
    own, previous, second = words.own, words.previous(1), words.previous(2)
    if_opened = opens & (second == last(previous)) & (previous == last(own))
    if_continued = ~opens & (second == last(second)) & (previous == last(previous))
    if_continued = if_continued & (words.without_last() == last(own))
    is_repeated = is_end & words.has_previous(2) & (if_opened | if_continued)
    return paddle.where(is_repeated, history, paddle.full_like(history, NONE))


class _Words:
    """The words of texts [B, K, n]: at each token, the number of the word as far as it goes."""

    def __init__(self, tokens: Tensor, opens: Tensor) -> None:
        places = paddle.cumsum(paddle.ones_like(tokens), axis=-1) - 1
        nowhere = paddle.full_like(tokens, -1)
        # Where the word of each token starts, and the words before it; -1 where there is none.
        self.start = paddle.cummax(paddle.where(opens, places, nowhere), axis=-1)[0]
        offsets = paddle.clip(places - self.start, max=LONGEST_HISTORY - 1)
        factors = paddle.gather(paddle.to_tensor(_FACTORS), offsets.flatten())
        self.shares = (tokens + 1) * factors.reshape(paddle.shape(tokens))
        total = paddle.cumsum(self.shares, axis=-1)
        self.own = total - self._at(total - self.shares, self.start)

    def previous(self, count: int) -> Tensor:
        """The number of the whole word so many words before that of each token."""
        return self._at(self.own, self._end_before(count))

    def has_previous(self, count: int) -> Tensor:
        """Whether there are so many words before that of each token."""
        return self._end_before(count) >= 0

    def without_last(self) -> Tensor:
        """The number of each word without its last token."""
        return self.own - self.shares

    def _end_before(self, count: int) -> Tensor:
        """Where the word so many words before that of each token ended; below 0: nowhere."""
        end = self.start - 1
        for _ in range(count - 1):
            start = paddle.where(end >= 0, self._at(self.start, end), paddle.zeros_like(end))
            end = start - 1
        return end

    @staticmethod
    def _at(values: Tensor, places: Tensor) -> Tensor:
        return paddle.take_along_axis(values, paddle.clip(places, min=0), axis=-1)


def _shifted(flags: Tensor) -> Tensor:
    """Flags [B, K, n] one place later, false first."""
    return paddle.concat([paddle.zeros_like(flags[..., :1]), flags[..., :-1]], axis=-1)
