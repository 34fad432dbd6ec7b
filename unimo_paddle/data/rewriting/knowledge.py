"""What is known of an image, from its captions, tags and graph: which claims it rules out.

Captions leave much unsaid, so a claim counts as false only where a caption would have named what
it claims ("a dog" where nobody speaks of one). A graph that is given with the data says which
object has which attribute, so that one object's colour may be claimed of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from unimo_paddle.data.rewriting.graph import Attribute, Mention, SceneGraph, ideas_in
from unimo_paddle.data.rewriting.lexicon import PLURAL, Idea, Lexicon
from unimo_paddle.data.rewriting.tagging import Word


@dataclass(frozen=True)
class GivenObject:
    """An object of a graph that stands in the data: all that its names and attributes may mean."""

    things: frozenset[Idea]
    qualities: frozenset[Idea]

    def may_be(self, thing: Idea, qualities: Iterable[Idea]) -> bool:
        """Whether a thing with these qualities may be this object."""
        if not self.things & thing.alike:
            return False
        return not any(self._excludes(quality) for quality in qualities)

    def _excludes(self, quality: Idea) -> bool:
        """Whether it has another quality of the same kind, and not this one."""
        same_kind = {other for other in self.qualities if other.kind.name == quality.kind.name}
        return bool(same_kind) and not same_kind & quality.alike


@dataclass(frozen=True)
class GivenGraph:
    """Objects and the relations (subject, placings, target) between them."""

    objects: tuple[GivenObject, ...]
    relations: tuple[tuple[int, frozenset[Idea], int], ...]


class Knowledge:
    """What captions, tags and graph say of one image.

    Args:
        captions: all that are given of the image, parsed.
        tags: names of objects, as words.
        graph: as it stands in the data, read by ``read_graph``.
    """

    def __init__(
        self,
        captions: Sequence[SceneGraph],
        lexicon: Lexicon,
        *,
        tags: Sequence[Sequence[Word]] = (),
        graph: GivenGraph | None = None,
    ) -> None:
        self.graph = graph
        self._captions = captions
        texts = [*(item.words for item in captions), *tags]
        self.things = set().union(*(ideas_in(words, lexicon.objects) for words in texts))
        self.qualities = set().union(*(ideas_in(words, lexicon.qualities) for words in texts))
        self.actions = set().union(*(ideas_in(words, lexicon.actions) for words in texts))
        self.words = {word.form for words in texts for word in words}
        if graph is not None:
            self.things.update(*(item.things for item in graph.objects))

    @cached_property
    def is_crowded(self) -> bool:
        """Whether more may be seen than the captions count."""
        return any(idea.name == "crowd" for idea in self.things)

    @cached_property
    def has_several_people(self) -> bool:
        """Whether the captions speak of more than one person."""
        people = {"male", "female", "person", "role"}
        counts = [
            sum(1 + (m.number == PLURAL) for m in item.mentions if m.idea.kind.name in people)
            for item in self._captions
        ]
        return max(counts, default=0) > 1 or self.is_crowded

    def excludes_thing(self, thing: Idea, qualities: Iterable[Idea] = ()) -> bool:
        """Whether no such thing, with these qualities, is to be seen."""
        if self.graph is not None:
            return not self._unexplained & thing.alike and not any(
                item.may_be(thing, qualities) for item in self.graph.objects
            )
        return thing.is_said and not self.things & thing.alike

    def excludes_quality(self, quality: Idea, mention: Mention, instead_of: Attribute) -> bool:
        """Whether the thing that is mentioned has not this quality in the place of its own.

        Without a graph nothing else may have it either: it could be what the sentence is about.
        """
        if self.graph is not None:
            others = [a.ideas[0] for a in mention.attributes if a is not instead_of]
            return self.excludes_thing(mention.idea, [*others, quality])
        return quality.is_said and not self.qualities & quality.alike

    def excludes_placing(
        self, placing: Idea, subject: Mention | None, target: Mention, old: Sequence[Idea]
    ) -> bool:
        """Whether nothing is placed so to what is mentioned."""
        if any(placing in idea.alike for idea in old):
            return False
        if self.graph is not None and self.graph.relations:
            firsts, seconds = (self._candidates(mention) for mention in (subject, target))
            return bool(firsts and seconds) and not any(
                placing.alike & names and first in firsts and second in seconds
                for first, names, second in self.graph.relations
            )
        said = (
            idea
            for item in self._captions
            for relation in item.relations
            if relation.form is None and relation.target is not None
            for idea in relation.ideas
            if item.mentions[relation.target].idea in target.idea.alike
        )
        return not any(placing in idea.alike for idea in said)

    def excludes_action(self, action: Idea) -> bool:
        """Whether nobody does this."""
        return action.is_said and not self.actions & action.alike

    def _candidates(self, mention: Mention | None) -> set[int]:
        """Numbers of the objects of the graph that may be meant."""
        if mention is None:
            return set()
        qualities = [attribute.ideas[0] for attribute in mention.attributes]
        objects = enumerate(self.graph.objects)
        return {number for number, item in objects if item.may_be(mention.idea, qualities)}

    @cached_property
    def _unexplained(self) -> set[Idea]:
        """Things that captions name and the graph does not hold: it is not complete."""
        held = set().union(*(item.things for item in self.graph.objects))
        alike = set().union(*(idea.alike for idea in held)) if held else set()
        said = {m.idea for item in self._captions for m in item.mentions}
        return said - alike


def read_graph(graph: dict[str, Any] | None, lexicon: Lexicon) -> GivenGraph | None:
    """Read the key ``graph`` of a record; none where it holds no objects.

    ``objects`` is a list of JSON objects whose texts, and lists of texts, are names and attributes
    under any keys; ``relations`` is a list of [subject, name, target] with numbers of objects;
    ``background`` is one more object. All else is left alone.
    """
    entries = (graph or {}).get("objects")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    objects = [_read_object(_texts(entry.values()), lexicon) for entry in entries]
    if isinstance(graph.get("background"), str):
        objects.append(_read_object([graph["background"]], lexicon))
    relations = []
    given = graph.get("relations")
    for item in given if isinstance(given, list) else ():
        if not (isinstance(item, list) and len(item) == 3 and isinstance(item[1], str)):
            continue
        subject, name, target = item
        if all(isinstance(n, int) and 0 <= n < len(objects) for n in (subject, target)):
            names = frozenset(idea for idea, _ in lexicon.placings.found(name.lower()))
            relations.append((subject, names, target))
    return GivenGraph(tuple(objects), tuple(relations)) if objects else None


def _texts(values: Iterable[Any]) -> list[str]:
    lists = [value if isinstance(value, list) else [value] for value in values]
    return [item.lower() for items in lists for item in items if isinstance(item, str)]


def _read_object(names: Iterable[str], lexicon: Lexicon) -> GivenObject:
    names = list(names)
    return GivenObject(
        frozenset(idea for name in names for idea, _ in lexicon.objects.found(name)),
        frozenset(idea for name in names for idea, _ in lexicon.qualities.found(name)),
    )
