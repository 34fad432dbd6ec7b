"""Wordings: whether a text says what a caption says, word for word or nearly.

Words are compared without case and punctuation. Captions of ``TELLING_WORDS`` words or more are
telling: two people hardly write the same one of two photographs. In those one word in ten may
differ: be replaced, left out or added. Of Chinese and Japanese every character counts as a word,
for nothing tells where one ends.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

TELLING_WORDS = 12
_WORDS_AN_EDIT = 10
_KEY_WORDS = 4  # that a piece of a caption is found by
# Kana and the blocks of Chinese characters, whose writers put no space between words.
_UNSPACED = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
# A sentence ends at a mark before white space and a capital, a digit, an opening mark or the end,
# or at one of the marks that need no space behind them.
_SENTENCE_END = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?\s?[A-Z0-9])|(?<=[\u3002\uff01\uff1f])\s*"
)

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """The words of a text in small letters, without punctuation."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def sentences_of(text: str) -> list[str]:
    """A paragraph cut into its sentences, by punctuation alone."""
    return [part for part in (part.strip() for part in _SENTENCE_END.split(text)) if part]


@dataclass(frozen=True)
class Match:
    """A caption that a text repeats.

    Args:
        name: what the caption was added under.
        num_edits: words in which they differ.
    """

    name: Hashable
    num_edits: int


class Wordings:
    """Captions, looked up by texts that may repeat them; memory is that of the captions.

    A telling caption that differs by d words holds at least one of d + 1 pieces as it stands. So
    it is found by the first words of its pieces, and then counted word by word.
    """

    def __init__(self) -> None:
        self._whole: dict[Words, list[Hashable]] = {}
        self._pieces: dict[Words, list[tuple[Words, Hashable]]] = {}

    def add(self, words: Words, name: Hashable) -> None:
        """Take a caption in."""
        self._whole.setdefault(words, []).append(name)
        if len(words) < TELLING_WORDS:
            return
        num_pieces = most_edits(words) + 1
        for number in range(num_pieces):
            start = number * len(words) // num_pieces
            key = words[start : start + _KEY_WORDS]
            self._pieces.setdefault(key, []).append((words, name))

    def find(self, words: Words) -> Iterator[Match]:
        """The captions that a text repeats; each name once."""
        for name in self._whole.get(words, ()):
            yield Match(name, 0)
        if not self._pieces or len(words) < TELLING_WORDS - 1:
            return
        seen: set[tuple[Words, Hashable]] = set()
        known = set(words)
        for start in range(len(words) - _KEY_WORDS + 1):
            for candidate in self._pieces.get(words[start : start + _KEY_WORDS], ()):
                if candidate in seen or candidate[0] == words:
                    continue
                seen.add(candidate)
                most = most_edits(candidate[0])
                # A cheap bound: an edit changes two of the words that only one of the texts has.
                if len(known.symmetric_difference(candidate[0])) > 2 * most:
                    continue
                num_edits = count_edits(candidate[0], words, most)
                if num_edits <= most:
                    yield Match(candidate[1], num_edits)


def most_edits(words: Words) -> int:
    """How many words may differ from those of a telling caption."""
    return len(words) // _WORDS_AN_EDIT


def count_edits(first: Sequence[str], second: Sequence[str], most: int) -> int:
    """Words to replace, add or leave out to make one text of the other; ``most`` + 1 if more."""
    if abs(len(first) - len(second)) > most:
        return most + 1
    row: Iterable[int] = range(len(second) + 1)
    for number, word in enumerate(first, 1):
        above = list(row)
        row = [number]
        for place, other in enumerate(second, 1):
            row.append(min(above[place] + 1, row[-1] + 1, above[place - 1] + (word != other)))
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)
