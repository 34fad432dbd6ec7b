"""Changes of a caption that make it false: an object, an attribute, a relation or a phrase.

"UNIMO" (arXiv 2012.15409), section 2.3, text rewriting at the phrase and word level: an object,
attribute or relation of the caption's scene graph is replaced by another of its vocabulary. Here
by one of the same kind that does not hold for the image, and so that the sentence stays one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from unimo_paddle.data.rewriting.corpus import (
    PEOPLE,
    Corpus,
    Phrase,
    after_number,
    is_exchangeable,
    quality_of,
)
from unimo_paddle.data.rewriting.graph import Mention, Relation, SceneGraph
from unimo_paddle.data.rewriting.knowledge import Knowledge
from unimo_paddle.data.rewriting.lexicon import (
    MASS,
    PLURAL,
    SINGULAR,
    Idea,
    Lexicon,
    article_of,
    form_of,
    verb_form,
)

OBJECT, ATTRIBUTE, RELATION, PHRASE = "object", "attribute", "relation", "phrase"
CHANGES = (OBJECT, ATTRIBUTE, RELATION, PHRASE)
MAX_PHRASES = 24  # that are tried for one mention

_PRONOUNS = {"he", "him", "his", "himself", "she", "her", "hers", "herself"}
# Said of one sex or of people only.
_BODILY = {"bearded", "shirtless", "bald", "pregnant", "topless", "balding", "mustached"}
_CLOTHES = {"topwear", "headwear", "legwear", "footwear"}
# Where several people are seen, somebody may wear what the captions leave out.
_USUAL_COLOURS = {"white", "black", "blue", "red", "brown", "green"}
_LAND = {"ground", "place on", "place in", "structure", "thing", "water place"}
_LAND_COLOURS = {"green", "brown", "yellow", "white"}
_SOLID = {"animal", "vehicle", "boat", "furniture", "play place", "structure", "instrument"}
_PEOPLE_PLACINGS = {"behind", "in front of", "under", "above"}
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight")
_AFTER_POSTURE = {
    "in",
    "on",
    "at",
    "near",
    "beside",
    "next",
    "behind",
    "under",
    "outside",
    "inside",
}
_AFTER_MOTION = {"through", "across", "along", "over", "around", "past", "toward", "towards", "in"}
_AFTER_MOTION |= {"on", "into", "near"}
_VERB_TARGETS = {
    "riding": {"vehicle", "board", "animal", "boat"},
    "holding": {"sports thing", "handheld", "food", "instrument"},
    "wearing": _CLOTHES,
}


@dataclass(frozen=True)
class Edit:
    """Words ``first`` to ``last`` (left out) of a caption, replaced by a text.

    Args:
        weight: how readily it is taken; what the corpus often says is harder to tell from truth.
    """

    kind: str
    first: int
    last: int
    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Span:
    """Characters ``start`` to ``end`` of a caption, replaced by a text."""

    kind: str
    start: int
    end: int
    text: str

    def apply(self, caption: str) -> str:
        """The caption with the change."""
        return f"{caption[: self.start]}{self.text}{caption[self.end :]}"


def find_changes(
    graph: SceneGraph,
    knowledge: Knowledge,
    corpus: Corpus,
    lexicon: Lexicon,
    rng: np.random.Generator,
) -> dict[str, list[Span]]:
    """Every change of a caption by its kind, each list in random order, no text twice."""
    found: dict[str, list[Span]] = {}
    seen = {graph.caption.lower()}
    for kind, finder in _FINDERS.items():
        edits = list(finder(graph, knowledge, corpus, lexicon, rng))
        # A weighted order without repetition: the first of racing exponentials comes first.
        times = rng.exponential(size=len(edits)) / [edit.weight for edit in edits]
        spans = (place(graph, edits[number]) for number in np.argsort(times, kind="stable"))
        found[kind] = []
        for span in spans:
            text = span.apply(graph.caption).lower()
            if text not in seen:
                seen.add(text)
                found[kind].append(span)
    return found


def place(graph: SceneGraph, edit: Edit) -> Span:
    """The characters that an edit replaces: with the article before them where it must change."""
    words, text = graph.words, edit.text
    start, end = words[edit.first].start, words[edit.last - 1].end
    before = words[edit.first - 1] if edit.first else None
    if before is not None and before.form in ("a", "an"):
        article = article_of(text)
        if article != before.form:
            start, text = before.start, f"{article} {text}"
    at = edit.first - (start != words[edit.first].start)
    begins = not at or words[at - 1].form in (".", "!", "?")
    if begins and graph.caption[start].isupper():
        text = text[0].upper() + text[1:]
    return Span(edit.kind, start, end, text)


def _objects(
    graph: SceneGraph,
    knowledge: Knowledge,
    corpus: Corpus,
    lexicon: Lexicon,
    rng: np.random.Generator,
) -> Iterator[Edit]:
    for mention in graph.mentions:
        if not is_exchangeable(graph, mention):
            continue
        qualities = _qualities(mention)
        for idea in lexicon.objects.replacements(mention.idea):
            if (
                idea in corpus.vocabulary["objects"]
                and _fits_number(idea, mention)
                and _agrees(idea, graph, mention)
                and knowledge.excludes_thing(idea, qualities)
            ):
                text = form_of(idea, mention.number)
                yield Edit(OBJECT, mention.noun, mention.last, text, corpus.weight(idea))


def _phrases(
    graph: SceneGraph,
    knowledge: Knowledge,
    corpus: Corpus,
    lexicon: Lexicon,
    rng: np.random.Generator,
) -> Iterator[Edit]:
    for mention in graph.mentions:
        if not is_exchangeable(graph, mention):
            continue
        kind = mention.idea.kind
        pool = [
            phrase
            for name in kind.partners or (kind.name,)
            for phrase in corpus.phrases.get((name, mention.number), ())
        ]
        first = after_number(mention)
        order = rng.permutation(len(pool))
        fitting = (pool[n] for n in order if _may_put_in(pool[n], graph, mention, knowledge))
        for phrase, _ in zip(fitting, range(MAX_PHRASES), strict=False):
            yield Edit(PHRASE, first, mention.last, phrase.text)


def _may_put_in(phrase: Phrase, graph: SceneGraph, mention: Mention, knowledge: Knowledge) -> bool:
    if phrase.idea in mention.idea.alike and knowledge.graph is None:
        return False
    corner = [a.ideas[0] for a in mention.attributes if a.first >= mention.last]
    return _agrees(phrase.idea, graph, mention) and knowledge.excludes_thing(
        phrase.idea, [*phrase.qualities, *corner]
    )


def _attributes(
    graph: SceneGraph,
    knowledge: Knowledge,
    corpus: Corpus,
    lexicon: Lexicon,
    rng: np.random.Generator,
) -> Iterator[Edit]:
    for mention in graph.mentions:
        if not is_exchangeable(graph, mention) and mention.number == SINGULAR:
            continue
        for attribute in mention.attributes:
            quality = quality_of(attribute, mention)
            if quality is None:
                continue
            for other in _other_qualities(quality, mention, knowledge, lexicon):
                if other in corpus.vocabulary["qualities"] and knowledge.excludes_quality(
                    other, mention, attribute
                ):
                    weight = corpus.weight(other)
                    yield Edit(ATTRIBUTE, attribute.first, attribute.last, other.name, weight)


def _other_qualities(
    quality: Idea, mention: Mention, knowledge: Knowledge, lexicon: Lexicon
) -> Iterator[Idea]:
    others = lexicon.qualities.replacements(quality)
    if quality.kind.name == "number":
        yield from _higher_numbers(quality, mention, knowledge, others)
        return
    is_usual_wear = (
        quality.kind.name == "colour"
        and mention.idea.kind.name in _CLOTHES
        and knowledge.has_several_people
    )
    is_land = quality.kind.name == "colour" and mention.idea.kind.name in _LAND
    for other in others:
        is_likely = (is_usual_wear and other.name in _USUAL_COLOURS) or (
            is_land and other.name in _LAND_COLOURS
        )
        if not is_likely or knowledge.graph is not None:
            yield other


def _higher_numbers(
    quality: Idea, mention: Mention, knowledge: Knowledge, others: Iterator[Idea]
) -> Iterator[Idea]:
    """Of four dogs it is true that there are two: only far higher numbers are surely false."""
    if mention.number != PLURAL or knowledge.is_crowded or quality.name not in _NUMBERS:
        return
    least = _NUMBERS.index(quality.name) + 2
    said = {idea for idea in knowledge.qualities if idea.kind.name == "number"}
    if all(idea is quality or idea.name.startswith("one") for idea in said):
        yield from (other for other in others if other.name in _NUMBERS[least:])


def _relations(
    graph: SceneGraph,
    knowledge: Knowledge,
    corpus: Corpus,
    lexicon: Lexicon,
    rng: np.random.Generator,
) -> Iterator[Edit]:
    for relation in graph.relations:
        find = _other_placings if relation.form is None else _other_verbs
        for text in find(graph, relation, knowledge, corpus, lexicon):
            yield Edit(RELATION, relation.first, relation.last, text)


def _other_placings(
    graph: SceneGraph, relation: Relation, knowledge: Knowledge, corpus: Corpus, lexicon: Lexicon
) -> Iterator[str]:
    target = graph.mentions[relation.target]
    kind = target.idea.kind.name
    is_person = kind in PEOPLE and target.number != MASS and kind != "person"
    if kind != "shape" and kind not in _SOLID and not is_person:
        return
    if target.last < len(graph.words) and graph.words[target.last].form in ("of", "'"):
        return
    if target.idea.name == "swing":
        return  # whoever sits on it also hangs under it
    wanted = "side" if kind == "shape" else "placing"
    old = next((i for i in relation.ideas if i.kind.name == wanted and i.is_said), None)
    if old is None:
        return
    subject = None if relation.subject is None else graph.mentions[relation.subject]
    for other in lexicon.placings.replacements(old):
        if is_person and other.name not in _PEOPLE_PLACINGS:
            continue
        if other in corpus.vocabulary["placings"] and knowledge.excludes_placing(
            other, subject, target, relation.ideas
        ):
            yield other.name


def _other_verbs(
    graph: SceneGraph, relation: Relation, knowledge: Knowledge, corpus: Corpus, lexicon: Lexicon
) -> Iterator[str]:
    after = graph.words[relation.last].form if relation.last < len(graph.words) else "."
    for old in relation.ideas:
        kind = old.kind.name
        if not old.is_said or not _takes(kind, graph, relation, after):
            continue
        for other in lexicon.actions.replacements(old):
            if other.name == "repair" and not _is_vehicle(graph, relation):
                continue
            if other in corpus.vocabulary["actions"] and knowledge.excludes_action(other):
                yield verb_form(other.name, relation.form)


def _is_vehicle(graph: SceneGraph, relation: Relation) -> bool:
    target = relation.target
    return target is not None and graph.mentions[target].idea.kind.name in ("vehicle", "boat")


def _takes(kind: str, graph: SceneGraph, relation: Relation, after: str) -> bool:
    """Whether every verb of a kind can be followed by what follows this one."""
    if kind in _VERB_TARGETS:
        if relation.target is None:
            return False
        return graph.mentions[relation.target].idea.kind.name in _VERB_TARGETS[kind]
    if relation.target is not None:
        return False
    places = _AFTER_POSTURE if kind == "posture" else _AFTER_MOTION
    return after in places or after == "."


def _qualities(mention: Mention) -> list[Idea]:
    return [attribute.ideas[0] for attribute in mention.attributes]


def _fits_number(idea: Idea, mention: Mention) -> bool:
    fixed = idea.kind.number
    return mention.number == fixed if fixed else mention.number != MASS


def _agrees(idea: Idea, graph: SceneGraph, mention: Mention) -> bool:
    """Whether pronouns and what is said of bodies suit the new noun."""
    old, new = mention.idea.kind.name, idea.kind.name
    if old not in PEOPLE or old == new:
        return True
    before = {word.form for word in graph.words[mention.first : mention.noun]}
    if before & _BODILY:
        return False
    return new not in ("male", "female") or not any(w.form in _PRONOUNS for w in graph.words)


_FINDERS: dict[str, Callable[..., Iterator[Edit]]] = {
    OBJECT: _objects,
    ATTRIBUTE: _attributes,
    RELATION: _relations,
    PHRASE: _phrases,
}
