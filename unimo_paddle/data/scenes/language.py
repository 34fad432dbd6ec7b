"""Captions: what to say about a scene, and how to say it, from varied templates.

Content comes first: a `Meaning` that is true of the scene, with two or three objects and most
often their places. Words come second, so that every caption's meaning is known exactly. Either is
drawn in steps, one function each, whose odds `likelihood` finds by trying every draw of a step.
"""

from __future__ import annotations

import numpy as np

from unimo_paddle.data.scenes.grammar import Scene, SceneObject, places_of, relations_of
from unimo_paddle.data.scenes.meaning import Meaning, Mention

NUMBER_WORDS = {0: "none", 1: "one", 2: "two", 3: "three", 4: "four"}

_PLACE_PHRASES = {
    "upper left": ("in the upper left", "in the upper left corner"),
    "upper right": ("in the upper right", "in the upper right corner"),
    "lower left": ("in the lower left", "in the lower left corner"),
    "lower right": ("in the lower right", "in the lower right corner"),
    "centre": ("in the centre", "in the middle"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
    "left": ("on the left",),
    "right": ("on the right",),
}
_RELATION_PHRASES = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above",),
    "below": ("below", "under"),
    "in front of": ("in front of", "partly hiding"),
}
_SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
_OPENINGS = ("there is {}", "the picture shows {}", "we see {}", "here is {}")


def write_captions(
    scene: Scene, num_captions: int, rng: np.random.Generator
) -> tuple[list[str], list[Meaning]]:
    """Return different captions of a scene and their meanings."""
    captions: dict[str, Meaning] = {}
    while len(captions) < num_captions:
        meaning = sample_meaning(scene, rng)
        captions.setdefault(express(meaning, rng), meaning)
    return list(captions), list(captions.values())


def write_paragraph(scene: Scene, rng: np.random.Generator) -> str:
    """Return one to three sentences about a scene, for text without an image."""
    sentences, _ = write_captions(scene, int(rng.integers(1, 4)), rng)
    return " ".join(f"{sentence}." for sentence in sentences)


def sample_meaning(scene: Scene, rng: np.random.Generator) -> Meaning:
    """Draw something true to say: objects with places, now and then a relation, number, ground."""
    order, relations = sample_topic(scene, rng)
    placed = sample_placed(len(order), rng, relational=bool(relations))
    mentions = [
        sample_mention(scene.objects[index], rng, with_place=is_placed)
        for index, is_placed in zip(order, placed, strict=True)
    ]
    return Meaning(tuple(mentions), relations, *sample_setting(scene, rng))


def sample_topic(
    scene: Scene, rng: np.random.Generator
) -> tuple[tuple[int, ...], tuple[tuple[int, str, int], ...]]:
    """Draw which objects to name, in which order, and the relation of the first two, if any."""
    relational = rng.random() < 0.25
    wanted = 2 if relational or rng.random() < 0.65 else 3
    order = rng.permutation(len(scene.objects))[:wanted]
    if not relational:
        return tuple(int(index) for index in order), ()
    options = relations_of(scene)
    in_front = [option for option in options if option[1] == "in front of"]
    if in_front and rng.random() < 0.5:
        options = in_front
    first, relation, second = options[rng.integers(len(options))]
    return (first, second), ((0, relation, 1),)


def sample_placed(
    num_mentions: int, rng: np.random.Generator, *, relational: bool
) -> tuple[bool, ...]:
    """Draw of which objects to say the place: of one at least."""
    placed = rng.random(num_mentions) < (0.75 if relational else 0.95)
    placed[rng.integers(num_mentions)] = True
    return tuple(bool(is_placed) for is_placed in placed)


def sample_setting(scene: Scene, rng: np.random.Generator) -> tuple[str | None, int | None]:
    """Draw whether to say the ground, and whether to say the number of objects."""
    return (
        scene.background if rng.random() < 0.18 else None,
        len(scene.objects) if rng.random() < 0.12 else None,
    )


def sample_mention(item: SceneObject, rng: np.random.Generator, *, with_place: bool) -> Mention:
    """Draw what to say of an object: colour and shape always, pattern and size sometimes."""
    says_pattern = rng.random() < (0.15 if item.pattern == "plain" else 0.4)
    says_size = item.size != "medium" and rng.random() < 0.3
    place = None
    if with_place:
        places = places_of(item.cell)
        narrow = min(places, key=lambda name: name in ("top", "bottom", "left", "right"))
        place = narrow if rng.random() < 0.85 else places[rng.integers(len(places))]
    return Mention(
        item.colour,
        item.shape,
        item.pattern if says_pattern else None,
        item.size if says_size else None,
        place,
    )


def express(meaning: Meaning, rng: np.random.Generator) -> str:
    """Put a meaning into words."""
    return frame(say_objects(meaning, rng), meaning, rng)


def say_objects(meaning: Meaning, rng: np.random.Generator) -> str:
    """Put the objects of a meaning and their relation into words."""
    return _relation_sentence(meaning, rng) if meaning.relations else _list(meaning, rng)


def frame(sentence: str, meaning: Meaning, rng: np.random.Generator) -> str:
    """Add to a sentence about objects their number, the ground or an opening."""
    if meaning.num_objects is not None:
        number = NUMBER_WORDS[meaning.num_objects]
        if rng.random() < 0.5:
            sentence = f"{number} objects, among them {sentence}"
        else:
            sentence = f"{sentence}, {number} objects in all"
    elif sentence.startswith("a") and rng.random() < 0.35:
        sentence = _pick(_OPENINGS, rng).format(sentence)
    if meaning.background is not None:
        if rng.random() < 0.4:
            return f"on {meaning.background}, {sentence}"
        return f"{sentence}, on {meaning.background}"
    return sentence


def describe(mention: Mention, rng: np.random.Generator, *, article: str = "a") -> str:
    """Put the object of a mention into words, without its place: "a small striped red ring"."""
    words = [
        _pick(_SIZE_WORDS[mention.size], rng) if mention.size else None,
        mention.pattern,
        mention.colour,
        mention.shape or "object",
    ]
    phrase = " ".join(word for word in words if word)
    if article == "a" and phrase[0] in "aeiou":
        article = "an"
    return f"{article} {phrase}" if article else phrase


def locate(place: str, rng: np.random.Generator) -> str:
    """Put a place into words: "in the upper left"."""
    return _pick(_PLACE_PHRASES[place], rng)


def relate(relation: str, rng: np.random.Generator) -> str:
    """Put a relation into words: "to the left of"."""
    return _pick(_RELATION_PHRASES[relation], rng)


def _list(meaning: Meaning, rng: np.random.Generator) -> str:
    """Name the objects one after the other, places behind or, if all are placed, before them."""
    all_placed = all(mention.place for mention in meaning.mentions)
    places_first = all_placed and rng.random() < 0.25
    parts = []
    for mention in meaning.mentions:
        words = [describe(mention, rng)]
        if mention.place:
            words.insert(0 if places_first else 1, locate(mention.place, rng))
        parts.append(" ".join(words))
    if len(parts) == 1 or (len(parts) == 2 and rng.random() < 0.3):
        return ", ".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _relation_sentence(meaning: Meaning, rng: np.random.Generator) -> str:
    """Say a relation between two objects, with the places of either."""
    ((_, relation, _),) = meaning.relations
    first, second = meaning.mentions
    subject, other = describe(first, rng), describe(second, rng)
    link = relate(relation, rng)
    if first.place:
        place = locate(first.place, rng)
        if rng.random() < 0.4:
            subject = f"{place} {subject}"
        else:
            subject = f"{subject} {place},"
    if second.place:
        other = f"{other} {locate(second.place, rng)}"
    return f"{subject} {link} {other}"


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]
