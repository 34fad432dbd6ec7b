"""Questions about scenes and their answers, from a closed set of some forty words.

Every question is answered from the scene itself and asked only where its answer is certain: "the
star" is said where there is one star.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unimo_paddle.data.scenes.grammar import (
    COLOURS,
    NOVEL_COMBINATIONS,
    SHAPES,
    Scene,
    relation_holds,
)
from unimo_paddle.data.scenes.language import NUMBER_WORDS, relate
from unimo_paddle.data.scenes.meaning import Meaning, Mention

_YES_NO_RELATIONS = ("left of", "right of", "above", "below")


def write_questions(
    scene: Scene, num_questions: int, rng: np.random.Generator
) -> list[dict[str, str]]:
    """Return different questions as {"question", "answer", "kind"}, of as many kinds as can be."""
    questions: dict[str, dict[str, str]] = {}
    kinds = list(_KINDS)
    turn = 0
    order = rng.permutation(len(kinds))
    while len(questions) < num_questions:
        kind = kinds[order[turn % len(kinds)]]
        turn += 1
        asked = _KINDS[kind](scene, rng)
        if asked is not None:
            question, answer = asked
            record = {"question": question, "answer": answer, "kind": kind}
            questions.setdefault(question, record)
    return list(questions.values())


def _colour(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    item = _unique(scene, "shape", rng)
    return item and (f"what colour is the {item.shape}?", item.colour)


def _shape(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    item = _unique(scene, "colour", rng)
    return item and (f"what shape is the {item.colour} object?", item.shape)


def _pattern(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    item = scene.objects[rng.integers(len(scene.objects))]
    return f"what pattern has the {item.colour} {item.shape}?", item.pattern


def _size(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    item = scene.objects[rng.integers(len(scene.objects))]
    if item.size == "medium":
        return None
    return f"is the {item.colour} {item.shape} small or large?", item.size


def _place(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    item = scene.objects[rng.integers(len(scene.objects))]
    return f"where is the {item.colour} {item.shape}?", item.place


def _count(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    """Ask for the number of a shape, of a colour or of all objects; never more often for none."""
    what = rng.integers(3)
    if what == 0:
        return "how many objects are there?", NUMBER_WORDS[len(scene.objects)]
    attribute, words = (("shape", SHAPES), ("colour", COLOURS))[what - 1]
    present = [getattr(item, attribute) for item in scene.objects]
    word = present[rng.integers(len(present))]
    if rng.random() < 0.2:
        word = words[rng.integers(len(words))]
    things = f"{word}s" if attribute == "shape" else f"{word} objects"
    return f"how many {things} are there?", NUMBER_WORDS[present.count(word)]


def _exists(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    """Ask for a combination that is there, or for one with one attribute exchanged."""
    item = scene.objects[rng.integers(len(scene.objects))]
    colour, shape = item.colour, item.shape
    if rng.random() < 0.5:
        while _is_unfit(colour, shape, scene):
            colour, shape = item.colour, item.shape
            if rng.random() < 0.5:
                colour = COLOURS[rng.integers(len(COLOURS))]
            else:
                shape = SHAPES[rng.integers(len(SHAPES))]
    article = "an" if colour[0] in "aeiou" else "a"
    answer = Meaning((Mention(colour, shape),)).holds(scene)
    return f"is there {article} {colour} {shape}?", _yes_no(answer)


def _relation(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    """Ask whether one object stands so to another; true and false equally often."""
    i, j = rng.permutation(len(scene.objects))[:2]
    wanted = bool(rng.random() < 0.5)
    fitting = [r for r in _YES_NO_RELATIONS if relation_holds(scene, i, r, j) == wanted]
    relation = fitting[rng.integers(len(fitting))]
    first, second = scene.objects[i], scene.objects[j]
    question = (
        f"is the {first.colour} {first.shape} {relate(relation, rng)} "
        f"the {second.colour} {second.shape}?"
    )
    return question, _yes_no(wanted)


def _is_unfit(colour: str, shape: str, scene: Scene) -> bool:
    """Tell whether a false question would name an unseen combination, or be true after all."""
    held_out = (colour, shape) in NOVEL_COMBINATIONS
    return held_out or Meaning((Mention(colour, shape),)).holds(scene)


def _unique(scene: Scene, attribute: str, rng: np.random.Generator):
    """Return an object that alone has its value of an attribute, or None."""
    values = [getattr(item, attribute) for item in scene.objects]
    alone = [item for item in scene.objects if values.count(getattr(item, attribute)) == 1]
    return alone[rng.integers(len(alone))] if alone else None


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


_KINDS: dict[str, Callable[[Scene, np.random.Generator], tuple[str, str] | None]] = {
    "colour": _colour,
    "shape": _shape,
    "pattern": _pattern,
    "size": _size,
    "place": _place,
    "count": _count,
    "exists": _exists,
    "relation": _relation,
}
