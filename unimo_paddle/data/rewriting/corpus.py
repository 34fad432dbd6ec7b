"""What the captions of a corpus are made of: the vocabulary of changes, and phrases to put in."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimo_paddle.data.records import Fault, read_lines
from unimo_paddle.data.rewriting.graph import Attribute, Mention, SceneGraph, join
from unimo_paddle.data.rewriting.lexicon import MASS, SINGULAR, Idea, Lexicon, Table
from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

PARTS = ("objects", "qualities", "actions", "placings")
PEOPLE = frozenset({"male", "female", "person", "role"})
_UNSUITED = {"place on": {"in", "into", "inside", "within"}, "place in": {"on", "onto", "atop"}}
MAX_PHRASES = 400  # of a kind and number, the commonest: variety enough, and little memory


@dataclass(frozen=True)
class Phrase:
    """An object with its attributes, as the corpus has it: "large brown horse"."""

    text: str
    idea: Idea
    qualities: tuple[Idea, ...]


@dataclass(frozen=True)
class Corpus:
    """What may be put in.

    Args:
        vocabulary: of each part of speech in PARTS the ideas that may be put in.
        phrases: by the kind of the thing and the number of the noun.
        counts: how often the captions say things and qualities.
    """

    vocabulary: Mapping[str, frozenset[Idea]]
    phrases: Mapping[tuple[str, str], tuple[Phrase, ...]]
    counts: Mapping[Idea, int]

    def weight(self, idea: Idea) -> float:
        """The square root of how often the corpus says it, so that rare things come, too."""
        return (1 + self.counts.get(idea, 0)) ** 0.5


class CorpusCounts:
    """Counts of what the captions say, as plain values that can be kept in a file."""

    def __init__(self, counts: dict[str, Any] | None = None) -> None:
        counts = counts or {}
        self._ideas = {part: Counter(counts.get(part, {})) for part in PARTS}
        self._phrases = Counter({tuple(key): number for key, number in counts.get("phrases", [])})

    def add(self, graph: SceneGraph) -> None:
        """Count one caption."""
        for mention in graph.mentions:
            self._ideas["objects"][_key(mention.idea)] += 1
            for attribute in mention.attributes:
                self._ideas["qualities"].update(map(_key, attribute.ideas))
            phrase = _phrase_key(graph, mention)
            if phrase is not None:
                self._phrases[phrase] += 1
        for relation in graph.relations:
            part = "placings" if relation.form is None else "actions"
            self._ideas[part].update(map(_key, relation.ideas))

    def to_json(self) -> dict[str, Any]:
        """Return the counts as ``__init__`` takes them, sorted."""
        return {
            **{part: dict(sorted(counter.items())) for part, counter in self._ideas.items()},
            "phrases": sorted([list(key), number] for key, number in self._phrases.items()),
        }

    def corpus(self, lexicon: Lexicon, names: Mapping[str, set[str]] | None = None) -> Corpus:
        """What may be put in: what the captions name, or the names that are given of a part."""
        vocabulary = {}
        for part in PARTS:
            table: Table = getattr(lexicon, part)
            if names and part in names:
                vocabulary[part] = frozenset(
                    idea for idea in table if any(name in names[part] for name in idea.names)
                )
            elif part in ("actions", "placings"):
                vocabulary[part] = frozenset(table)
            else:
                vocabulary[part] = frozenset(i for i in table if self._ideas[part][_key(i)])
        counts = {
            idea: self._ideas[part][_key(idea)]
            for part in ("objects", "qualities")
            for idea in vocabulary[part]
        }
        return Corpus(vocabulary, self._gather_phrases(lexicon, vocabulary), counts)

    def _gather_phrases(
        self, lexicon: Lexicon, vocabulary: Mapping[str, frozenset[Idea]]
    ) -> dict[tuple[str, str], tuple[Phrase, ...]]:
        things = {_key(idea): idea for idea in vocabulary["objects"]}
        qualities = {_key(idea): idea for idea in vocabulary["qualities"]}
        found: dict[tuple[str, str], list[Phrase]] = {}
        ranked = sorted(self._phrases, key=lambda key: (-self._phrases[key], key))
        for text, number, thing, *said in ranked:
            if thing not in things or any(quality not in qualities for quality in said):
                continue
            idea = things[thing]
            phrases = found.setdefault((idea.kind.name, number), [])
            if len(phrases) < MAX_PHRASES:
                phrases.append(Phrase(text, idea, tuple(qualities[quality] for quality in said)))
        return {key: tuple(phrases) for key, phrases in found.items()}


def read_names(path: Path, tables: Mapping[str, Table]) -> dict[str, set[str]]:
    """Read a list of names, one a line, synonyms separated by commas.

    What the lexicon does not know has no kind, and is left out.

    Args:
        tables: by the part of speech, in which the names are looked up.

    Returns:
        The usual names that are found in each table.
    """
    found: dict[str, set[str]] = {part: set() for part in tables}
    total = unknown = 0
    for where, line in read_lines(path):
        if isinstance(line, Fault):
            raise UserError(f"{where}: {line}; save the list of names as UTF-8")
        synonyms = [name.strip().lower() for name in line.split(",") if name.strip()]
        known = {
            part: {idea.name for name in synonyms for idea, _ in table.found(name)}
            for part, table in tables.items()
        }
        for part, names in known.items():
            found[part] |= names
        total += bool(synonyms)
        unknown += bool(synonyms) and not any(known.values())
    if not any(found.values()):
        raise UserError(f"{path} holds no name that the lexicon knows; give one name a line")
    if unknown:
        logger.info("%s: %d of %d names are not in the lexicon", path, unknown, total)
    return found


def is_exchangeable(graph: SceneGraph, mention: Mention) -> bool:
    """Whether another noun in its place still gives a sentence."""
    words = graph.words
    after = words[mention.last].form if mention.last < len(words) else ""
    before = words[mention.first - 1].form if mention.first else ""
    if after in ("of", "-", "'") or _is_oddly_placed(graph, mention):
        return False
    if mention.number == SINGULAR:
        # "in town", "from bed to bed"
        counts = [a.ideas[0].name for a in mention.attributes if a.ideas[0].kind.name == "number"]
        if any(count != "one" for count in counts):
            return False  # "three man" is a slip of the pen
        return mention.determiner is not None or mention.first == 0 or bool(counts)
    return not (mention.number == MASS and before == "of")


def _is_oddly_placed(graph: SceneGraph, mention: Mention) -> bool:
    """Whether the preposition suits the place, and not its kind: "in a field", but "on a road"."""
    first = mention.first if mention.determiner is None else mention.determiner
    before = graph.words[first - 1].form if first else ""
    return before in _UNSUITED.get(mention.idea.kind.name, ())


def after_number(mention: Mention) -> int:
    """The first word of the phrase that is no number."""
    first = mention.first
    for attribute in mention.attributes:
        if attribute.first == first and attribute.ideas[0].kind.name == "number":
            first = attribute.last
    return first


def _key(idea: Idea) -> str:
    return f"{idea.kind.name}/{idea.name}"


def _phrase_key(graph: SceneGraph, mention: Mention) -> tuple[str, ...] | None:
    """What identifies a phrase whose every word is understood; none where one is not."""
    first = after_number(mention)
    said = [a for a in mention.attributes if first <= a.first and a.last <= mention.noun]
    covered = sum(attribute.last - attribute.first for attribute in said)
    is_plain = (
        said
        and mention.idea.is_said
        and mention.noun == mention.head
        and covered == mention.noun - first
    )
    if not is_plain:
        return None
    qualities = [quality_of(attribute, mention) or attribute.ideas[0] for attribute in said]
    if mention.idea.kind.name in PEOPLE and any(q.kind.name == "colour" for q in qualities):
        return None
    text = join(graph.words, first, mention.last)
    return (text, mention.number, _key(mention.idea), *map(_key, qualities))


def quality_of(attribute: Attribute, mention: Mention) -> Idea | None:
    """What an attribute means of this thing; none where its kinds are not said of such things.

    The colours of people are left alone: they mean other things.
    """
    for idea in attribute.ideas:
        heads = idea.kind.heads
        if idea.kind.name == "colour" and mention.idea.kind.name in PEOPLE:
            continue
        if not heads or {mention.idea.kind.name, mention.idea.name} & set(heads):
            return idea
    return None
