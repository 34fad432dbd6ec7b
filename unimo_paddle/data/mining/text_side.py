"""Sentences of text files near the captions of pairs, never among these captions themselves."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from unimo_paddle.data.chunks import Chunks, Workshop
from unimo_paddle.data.mining.neighbours import DenseTable, SparseTable, warn_if_alike
from unimo_paddle.data.mining.sides import Side
from unimo_paddle.data.mining.texts import (
    QUERIES_AT_ONCE,
    PackedTexts,
    WordWeights,
    read_sentences,
    write_sentences,
)
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.data.wording import Wordings, Words, words_of

logger = logging.getLogger(__name__)

_SENTENCES_AT_ONCE = 1024

EmbedTexts = Callable[[Sequence[str]], np.ndarray]


class TextSide:
    """The work on texts: what may be found, what it is compared by, what is nearest."""

    def __init__(
        self,
        shop: Workshop,
        records: Sequence[PairRecord],
        split_records: Sequence[PairRecord],
        files: Sequence[Path],
    ) -> None:
        self._shop = shop
        self._records = records
        self._split_records = split_records
        self._files = files

    def mine(self, count: int, embed: EmbedTexts | None, *, exact_rows: int) -> Side:
        """Neighbours of the caption sets of all records."""
        sentences = self._sentences()
        count = min(count, len(sentences))  # no room for what cannot be
        if embed is None:
            found = self._by_words(sentences, count)
        else:
            found = self._by_features(sentences, count, embed, exact_rows)
        return Side(found, np.arange(len(self._records)), sentences)

    def _sentences(self) -> PackedTexts:
        path = self._shop.folder / "sentences"
        if not path.exists():
            captions = {words_of(text) for text in _captions(self._records)}
            wordings = Wordings()
            for text in _captions(self._split_records):
                wordings.add(words_of(text), None)

            def is_known(words: Words) -> bool:
                return words in captions or any(True for _ in wordings.find(words))

            def write(unfinished: Path) -> None:
                write_sentences(unfinished, self._files, is_known=is_known)

            self._shop.make_file(path.name, write)
        sentences, num_known = read_sentences(path)
        logger.info(
            "texts: %d sentences may be found; %d are captions of the pairs or splits",
            len(sentences),
            num_known,
        )
        return sentences

    def _by_words(self, sentences: PackedTexts, count: int) -> Chunks:
        weights = WordWeights()
        # A word is as telling as it is rare among sentences and captions taken together.
        weights.learn(itertools.chain(sentences, _captions(self._records)))
        table = SparseTable(*weights.write(self._shop, "words", sentences))
        sets = [" ".join(record.captions) for record in self._records]
        return weights.nearest(self._shop, "nearest sentences", table, sets, count)

    def _by_features(
        self, sentences: PackedTexts, count: int, embed: EmbedTexts, exact_rows: int
    ) -> Chunks:
        def describe(start: int, stop: int) -> np.ndarray:
            return embed([sentences[i] for i in range(start, stop)]).astype(np.float16)

        def describe_sets(start: int, stop: int) -> np.ndarray:
            """The direction of the mean of a set's features."""
            part = self._records[start:stop]
            rows = embed(list(_captions(part)))
            firsts = np.cumsum([0, *(len(record.captions) for record in part[:-1])])
            sums = np.add.reduceat(rows, firsts, axis=0)
            return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float16)

        features = self._shop.compute(
            "features of sentences", len(sentences), describe, size=_SENTENCES_AT_ONCE, unit="text"
        )
        queries = self._shop.compute(
            "features of captions",
            len(self._records),
            describe_sets,
            size=QUERIES_AT_ONCE,
            unit="record",
        )
        warn_if_alike(features, "features of texts")
        path = self._shop.folder / "texts.faiss"
        kept = np.arange(len(sentences))
        table = DenseTable(features, kept, path=path, exact_rows=exact_rows)

        def search(start: int, stop: int) -> np.ndarray:
            return table.nearest(queries.read(start, stop), count)

        return self._shop.compute(
            "nearest sentences", len(queries), search, size=QUERIES_AT_ONCE, unit="record"
        )


def _captions(records: Sequence[PairRecord]) -> Iterator[str]:
    return (text for record in records for text in record.captions)
