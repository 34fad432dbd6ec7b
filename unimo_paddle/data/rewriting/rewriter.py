"""From an image with its captions to the rewrites of each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain, islice, zip_longest

import numpy as np

from unimo_paddle.data.rewriting.changes import find_changes
from unimo_paddle.data.rewriting.corpus import Corpus
from unimo_paddle.data.rewriting.graph import SceneGraph, parse_caption
from unimo_paddle.data.rewriting.knowledge import Knowledge, read_graph
from unimo_paddle.data.rewriting.lexicon import Lexicon
from unimo_paddle.data.rewriting.sentences import SentenceIndex
from unimo_paddle.data.rewriting.store import (
    CAPTION,
    MAX_CHARACTERS,
    NEGATIVE_KINDS,
    PARAPHRASE,
    SENTENCE,
    Row,
)
from unimo_paddle.data.rewriting.tagging import tag
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.errors import UserError


@dataclass(frozen=True)
class RewritingConfig:
    """How many rewrites are made; a kind that has fewer leaves its room to the others."""

    seed: int = 0
    num_negatives: int = 100  # of a caption at most, all kinds together
    num_sentences: int = 30  # of them captions of other images, at most
    num_positives: int = 4  # of a caption at most
    pool_size: int = 100_000  # captions among which the nearest are searched

    def __post_init__(self) -> None:
        for item in fields(self):
            value, least = getattr(self, item.name), 1 if item.name == "pool_size" else 0
            if not least <= value <= 2**31 - 1:
                raise UserError(
                    f"--{item.name} is {value}; give a whole number of at least {least}"
                )

    def to_json(self) -> dict[str, int]:
        """Return the settings as JSON."""
        return asdict(self)


class Rewriter:
    """Rewrites the captions of a corpus, each record as a function of the seed and its number.

    Args:
        records: of the whole corpus.
        paraphrases: of captions, made by the user.
    """

    def __init__(
        self,
        records: Sequence[PairRecord],
        corpus: Corpus,
        lexicon: Lexicon,
        config: RewritingConfig,
        *,
        paraphrases: Mapping[str, Sequence[str]],
    ) -> None:
        self._records = records
        self._corpus = corpus
        self._lexicon = lexicon
        self._config = config
        self._paraphrases = paraphrases
        self._first = np.cumsum([0, *(len(record.captions) for record in records)])
        self._of_group: dict[int, list[int]] = {}
        for number, record in enumerate(records):
            self._of_group.setdefault(record.group, []).append(number)
        self._sentences = SentenceIndex(
            [caption for record in records for caption in record.captions],
            [record.group for record in records for _ in record.captions],
            lexicon,
            pool_size=config.pool_size,
            seed=config.seed,
        )

    def rewrite(self, first: int, last: int) -> Iterator[list[Row]]:
        """The rewrites of every caption of the records ``first`` to ``last``, in order."""
        numbers = range(int(self._first[first]), int(self._first[last]))
        nearest = self._sentences.nearest(numbers)
        for record in range(first, last):
            own = self._records[record]
            others = [self._records[n] for n in self._of_group[own.group] if n != record]
            graphs, knowledge = understand(own, others, self._lexicon)
            for caption, graph in enumerate(graphs):
                candidates = next(nearest)
                yield [
                    *self._negatives(record, caption, graph, knowledge, candidates),
                    *self._positives(record, caption),
                ]

    def _negatives(
        self,
        record: int,
        caption: int,
        graph: SceneGraph,
        knowledge: Knowledge,
        candidates: Sequence[int],
    ) -> list[Row]:
        base = int(self._first[record]) + caption
        rng = np.random.default_rng((self._config.seed, record, caption))
        found: dict[str, Iterator[Row]] = {}
        if len(graph.caption) <= MAX_CHARACTERS:
            changes = find_changes(graph, knowledge, self._corpus, self._lexicon, rng)
            for kind, spans in changes.items():
                found[kind] = iter([Row(kind, base, s.start, s.end, s.text) for s in spans])
        numbers = self._sentences.false_of(knowledge, candidates, most=self._config.num_sentences)
        found[SENTENCE] = (Row(SENTENCE, number) for number in numbers)
        ordered = [found[kind] for kind in NEGATIVE_KINDS if kind in found]
        turns = chain.from_iterable(zip_longest(*ordered))
        return list(islice((row for row in turns if row), self._config.num_negatives))

    def _positives(self, record: int, caption: int) -> list[Row]:
        """Paraphrases of the caption; without one, the other captions of the image."""
        base = int(self._first[record]) + caption
        own = self._records[record].captions[caption]
        texts = [text for text in self._paraphrases.get(own, ()) if text != own]
        if texts and len(own) <= MAX_CHARACTERS:
            rows = [Row(PARAPHRASE, base, 0, len(own), text) for text in texts]
        else:
            others = chain.from_iterable(
                range(int(self._first[n]), int(self._first[n + 1]))
                for n in self._of_group[self._records[record].group]
            )
            rows = [Row(CAPTION, number) for number in others if number != base]
        return rows[: self._config.num_positives]


def understand(
    own: PairRecord, others: Sequence[PairRecord], lexicon: Lexicon
) -> tuple[list[SceneGraph], Knowledge]:
    """The captions of a record, parsed, and what it and other records of its image say."""

    def parse(captions: Iterable[str]) -> list[SceneGraph]:
        return [parse_caption(caption, tag(caption), lexicon) for caption in captions]

    graphs = parse(own.captions)
    heard = parse(caption for other in others for caption in other.captions)
    every = (own, *others)
    names = chain(
        (name for record in every for name in record.tags or ()),
        (name for record in every for item in record.objects for name in item.names),
    )
    given = next((record.graph for record in every if record.graph), None)
    knowledge = Knowledge(
        [*graphs, *heard],
        lexicon,
        tags=[tag(name) for name in names],
        graph=read_graph(given, lexicon),
    )
    return graphs, knowledge
