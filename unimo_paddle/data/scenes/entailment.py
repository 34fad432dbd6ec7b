"""Entailment triples: an image as the premise, a sentence, and what the one says of the other.

- entailment: the sentence is true of the image;
- contradiction: the sentence, or the part of it that can be seen, is false of the image;
- neutral: what can be seen is true, and the sentence adds what no image shows ("is heavy").

Half of the contradictions add something invisible as well, so that such words do not give the
neutral ones away: the sentence alone leads to two thirds of the labels at best.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from unimo_paddle.data.scenes.grammar import (
    BACKGROUNDS,
    COLOURS,
    NOVEL_COMBINATIONS,
    PATTERNS,
    PLACES,
    SHAPES,
    Scene,
)
from unimo_paddle.data.scenes.language import describe, express, locate, sample_meaning
from unimo_paddle.data.scenes.meaning import Meaning

_T = TypeVar("_T")

LABELS = ("entailment", "neutral", "contradiction")
_INVISIBLE = (
    "is heavy",
    "is light",
    "is old",
    "is new",
    "is made of glass",
    "is made of metal",
    "was blue before",
    "was painted today",
    "belongs to a child",
    "will be moved soon",
)
_VALUES = {
    "colour": COLOURS,
    "shape": SHAPES,
    "pattern": PATTERNS,
    "size": ("small", "large"),
    "place": tuple(PLACES),
}
_OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def write_entailment(
    scene: Scene, num_triples: int, rng: np.random.Generator
) -> list[dict[str, str]]:
    """Return triples as {"hypothesis", "label"}, the labels taking turns from a random first."""
    first = rng.integers(len(LABELS))
    triples: dict[str, dict[str, str]] = {}
    while len(triples) < num_triples:
        label = LABELS[(first + len(triples)) % len(LABELS)]
        meaning = sample_meaning(scene, rng)
        is_visible = label == "entailment" or (label == "contradiction" and rng.random() < 0.5)
        if not is_visible:
            meaning = _first_object(meaning)
        if label == "contradiction":
            meaning = contradict(meaning, scene, rng)
        hypothesis = express(meaning, rng) if is_visible else _add_invisible(meaning, rng)
        triples.setdefault(hypothesis, {"hypothesis": hypothesis, "label": label})
    return list(triples.values())


def contradict(meaning: Meaning, scene: Scene, rng: np.random.Generator) -> Meaning:
    """Exchange one attribute or relation of a true meaning so that it is false of the scene.

    No combination of colour and shape that is kept for `test_novel` comes about.
    """
    while True:
        changed = _exchange(meaning, rng)
        pairs = {(mention.colour, mention.shape) for mention in changed.mentions}
        old_pairs = {(mention.colour, mention.shape) for mention in meaning.mentions}
        if not (pairs - old_pairs) & NOVEL_COMBINATIONS and not changed.holds(scene):
            return changed


def _exchange(meaning: Meaning, rng: np.random.Generator) -> Meaning:
    """Return the meaning with an attribute, the relation, ground or number replaced."""
    if meaning.relations and rng.random() < 0.4:
        ((subject, relation, other),) = meaning.relations
        opposite = _OPPOSITES.get(relation)
        if opposite is not None:
            return replace(meaning, relations=((subject, opposite, other),))
    if meaning.background is not None and rng.random() < 0.3:
        return replace(meaning, background=_other(meaning.background, BACKGROUNDS, rng))
    if meaning.num_objects is not None and rng.random() < 0.3:
        return replace(meaning, num_objects=_other(meaning.num_objects, (2, 3, 4), rng))
    index = int(rng.integers(len(meaning.mentions)))
    mention = meaning.mentions[index]
    said = [name for name in _VALUES if getattr(mention, name) is not None]
    name = said[rng.integers(len(said))]
    new = replace(mention, **{name: _other(getattr(mention, name), _VALUES[name], rng)})
    mentions = (*meaning.mentions[:index], new, *meaning.mentions[index + 1 :])
    return replace(meaning, mentions=mentions)


def _other(value: _T, values: tuple[_T, ...], rng: np.random.Generator) -> _T:
    others = [other for other in values if other != value]
    return others[rng.integers(len(others))]


def _first_object(meaning: Meaning) -> Meaning:
    """Keep what is said of the first object alone."""
    return Meaning((meaning.mentions[0],))


def _add_invisible(meaning: Meaning, rng: np.random.Generator) -> str:
    """Say of the one object of a meaning something that no image shows."""
    (mention,) = meaning.mentions
    subject = describe(replace(mention, place=None), rng, article="the")
    place = f" {locate(mention.place, rng)}" if mention.place else ""
    return f"{subject}{place} {_INVISIBLE[rng.integers(len(_INVISIBLE))]}"
