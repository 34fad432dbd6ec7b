"""Captions of other images that are close in words and yet false of an image.

"UNIMO" (arXiv 2012.15409), section 2.3, text rewriting at the sentence level: the nearest captions
by TF-IDF are hard negatives. Near ones are often true as well ("a dog runs in the grass"), so one
counts only if it names something that captions would not leave out, and the image's do not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unimo_paddle.data.rewriting.graph import parse_caption
from unimo_paddle.data.rewriting.knowledge import Knowledge
from unimo_paddle.data.rewriting.lexicon import Idea, Lexicon
from unimo_paddle.data.rewriting.tagging import tag

_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
NUM_CANDIDATES = 200  # nearest captions that are tried
MAX_PER_IMAGE = 2  # captions of one other image
_ROWS = 256  # captions whose similarities are held at once

# Things that a caption is about where they are seen.
_STRIKING = frozenset(["animal", "role", "vehicle", "boat", "board", "instrument", "food"]) | {
    "sports thing",
    "play place",
    "shape",
}
# What a caption may leave out, and people who may be taken for others: two must be missing.
_PLAIN = frozenset(["furniture", "structure", "ground", "handheld", "male", "female"]) | {
    "water place",
    "place on",
    "place in",
}

_ENOUGH = 2  # weights of missing things that make a caption false


@dataclass(frozen=True)
class Claim:
    """A thing that a caption says is there, and how much it tells when it is not."""

    thing: Idea
    qualities: tuple[Idea, ...]
    weight: int


@dataclass(frozen=True)
class Claims:
    """What a caption says that can be found false: things, and what is done."""

    things: tuple[Claim, ...]
    actions: tuple[Idea, ...]


class SentenceIndex:
    """Captions of a corpus to search in.

    Args:
        captions: all of the corpus.
        groups: the number of the image of each; captions of one image never stand for each other.
        pool_size: how many are searched; of more, so many are drawn by ``seed``.
    """

    def __init__(
        self,
        captions: Sequence[str],
        groups: Sequence[int],
        lexicon: Lexicon,
        *,
        pool_size: int,
        seed: int,
    ) -> None:
        # Imported here, for that takes seconds and most programs need none of it.
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._captions = captions
        self._groups = np.asarray(groups)
        self._lexicon = lexicon
        numbers = np.arange(len(captions))
        if len(captions) > pool_size:
            rng = np.random.default_rng((seed, len(captions)))
            numbers = np.sort(rng.choice(len(captions), pool_size, replace=False))
        self._pool = numbers
        self._vectorizer = TfidfVectorizer(
            sublinear_tf=True, dtype=np.float32, token_pattern=_WORD.pattern
        )
        pool = [captions[n] for n in numbers]
        # Where no caption holds a letter, nothing is near anything.
        self._rows = self._vectorizer.fit_transform(pool) if any(map(_WORD.search, pool)) else None
        self._claims: dict[int, Claims] = {}

    def nearest(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """For each caption the nearest ones of other images, nearest first."""
        if self._rows is None:
            yield from ([] for _ in numbers)
            return
        for begin in range(0, len(numbers), _ROWS):
            part = numbers[begin : begin + _ROWS]
            queries = self._vectorizer.transform([self._captions[n] for n in part])
            scores = np.asarray((queries @ self._rows.T).todense())
            for number, row in zip(part, scores, strict=True):
                row[self._groups[self._pool] == self._groups[number]] = 0
                yield self._best(row)

    def _best(self, scores: np.ndarray) -> list[int]:
        count = min(NUM_CANDIDATES, len(scores))
        places = np.argpartition(-scores, count - 1)[:count]
        places = places[np.lexsort((places, -scores[places]))]
        return [int(self._pool[place]) for place in places if scores[place] > 0]

    def false_of(
        self, knowledge: Knowledge, candidates: Sequence[int], *, most: int
    ) -> Iterator[int]:
        """The first candidates that cannot be true of an image; no text twice."""
        texts: set[str] = set()
        taken: dict[int, int] = {}
        for number in candidates:
            text = self._captions[number].lower()
            group = int(self._groups[number])
            if len(texts) == most:
                return
            if text in texts or taken.get(group, 0) == MAX_PER_IMAGE:
                continue
            if self._is_false(knowledge, number):
                texts.add(text)
                taken[group] = taken.get(group, 0) + 1
                yield number

    def _is_false(self, knowledge: Knowledge, number: int) -> bool:
        claims = self._claimed(number)
        weights = {
            claim.thing: claim.weight
            for claim in claims.things
            if knowledge.excludes_thing(claim.thing, claim.qualities)
        }
        if knowledge.graph is not None:
            # What a complete graph rules out is false, however plain.
            return bool(weights)
        other_doing = any(knowledge.excludes_action(action) for action in claims.actions)
        return sum(weights.values()) + other_doing >= _ENOUGH

    def _claimed(self, number: int) -> Claims:
        """What a caption names that can be missed, parsed once."""
        if number not in self._claims:
            caption = self._captions[number]
            graph = parse_caption(caption, tag(caption), self._lexicon)
            things = tuple(
                Claim(mention.idea, tuple(a.ideas[0] for a in mention.attributes), weight)
                for mention in graph.mentions
                if mention.idea.is_said and (weight := _weight(mention.idea))
            )
            actions = {r.ideas[0] for r in graph.relations if r.form is not None}
            self._claims[number] = Claims(things, tuple(actions))
        return self._claims[number]


def _weight(thing: Idea) -> int:
    kind = thing.kind.name
    return _ENOUGH if kind in _STRIKING else int(kind in _PLAIN)
