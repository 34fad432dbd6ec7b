"""Tables of texts about scenes, for the tasks that need no image: every answer is certain.

- sentences: whether two sentences say the same of a scene (``same``), or one of them is false;
- likeness: 0 to 5, five times the share of objects that two lists have in common;
- headlines: the objects that a paragraph names, in the order of their first naming;
- dialogue: a description of all objects, questions with their answers, and the last answer.

``ensure_tables`` writes a folder once and finds it again, by its manifest ``scene_texts.json``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from unimo_paddle.data.publish import publish
from unimo_paddle.data.scenes.entailment import contradict
from unimo_paddle.data.scenes.grammar import Scene, SceneObject, sample_scene
from unimo_paddle.data.scenes.language import express, sample_meaning, write_captions
from unimo_paddle.data.scenes.manifest import check_manifest, write_manifest
from unimo_paddle.data.scenes.meaning import Meaning, Mention
from unimo_paddle.data.scenes.questions import write_questions

Row = dict[str, str]

MANIFEST = "scene_texts.json"
# Raised whenever the same options would write other tables than before.
VERSION = 1
TURN_SEPARATOR = " [SEP] "  # as tables of dialogues have it
MAX_LIKENESS = 5.0
_NUM_QUESTIONS = 4
_SPLITS = ("train", "test")


def ensure_tables(folder: Path, *, num_train: int, num_test: int, seed: int) -> None:
    """Write a folder of tables, or find the same one there.

    Raises:
        UserError: the folder holds something else, or tables of other options.
    """
    options = {"num_train": num_train, "num_test": num_test, "seed": seed}
    publish(folder, functools.partial(write_tables, **options))
    check_manifest(folder / MANIFEST, options, version=VERSION, what="tables")


def write_tables(folder: Path, *, num_train: int, num_test: int, seed: int) -> None:
    """Write ``{table}_{train,test}.tsv``; no scene of one split can be told from one of another."""
    folder.mkdir(parents=True)
    taken: set[tuple] = set()
    for number, (split, count) in enumerate(zip(_SPLITS, (num_train, num_test), strict=True)):
        rng = np.random.default_rng((seed, number))
        scenes = [_new_scene(rng, taken) for _ in range(count)]
        for name, write in TABLES.items():
            rows = [write(scene, scenes[place - 1], rng) for place, scene in enumerate(scenes)]
            _write(folder / f"{name}_{split}.tsv", rows)
    options = {"num_train": num_train, "num_test": num_test, "seed": seed}
    write_manifest(folder / MANIFEST, options, version=VERSION)


def _new_scene(rng: np.random.Generator, taken: set[tuple]) -> Scene:
    scene = sample_scene(rng)
    while scene.signature in taken:
        scene = sample_scene(rng)
    taken.add(scene.signature)
    return scene


def _write(path: Path, rows: Iterable[Row]) -> None:
    rows = list(rows)
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def write_sentences(scene: Scene, _: Scene, rng: np.random.Generator) -> Row:
    """Two wordings of one meaning, or of one that is true and one that is not."""
    meaning = sample_meaning(scene, rng)
    is_same = bool(rng.random() < 0.5)
    other = meaning if is_same else contradict(meaning, scene, rng)
    label = "same" if is_same else "different"
    return {"label": label, "text_a": express(meaning, rng), "text_b": express(other, rng)}


def write_likeness(scene: Scene, other: Scene, rng: np.random.Generator) -> Row:
    """Two lists of objects of which some are replaced by those of another scene."""
    kept = [_thing(item) for item in scene.objects]
    spare = [_thing(item) for item in other.objects if _thing(item) not in kept]
    spare = list(dict.fromkeys(spare))
    changed = rng.permutation(len(kept))[: rng.integers(min(len(kept), len(spare)) + 1)]
    replaced = list(kept)
    for place, new in zip(changed, spare, strict=False):
        replaced[place] = new
    order = rng.permutation(len(replaced))
    likeness = MAX_LIKENESS * (1 - len(changed) / len(kept))
    return {
        "label": f"{likeness:.2f}",
        "text_a": express(Meaning(tuple(kept)), rng),
        "text_b": express(Meaning(tuple(replaced[place] for place in order)), rng),
    }


def write_headline(scene: Scene, _: Scene, rng: np.random.Generator) -> Row:
    """A paragraph of two sentences, and the objects in it."""
    sentences, meanings = write_captions(scene, 2, rng)
    named = [f"{m.colour} {m.shape}" for meaning in meanings for m in meaning.mentions]
    source = " ".join(f"{sentence}." for sentence in sentences)
    return {"src": source, "tgt": ", ".join(dict.fromkeys(named))}


def write_dialogue(scene: Scene, _: Scene, rng: np.random.Generator) -> Row:
    """All that can be said of the objects, and questions that this answers."""
    everything = [
        replace(
            _thing(item),
            pattern=item.pattern,
            size=None if item.size == "medium" else item.size,
            place=item.place,
        )
        for item in scene.objects
    ]
    asked = write_questions(scene, _NUM_QUESTIONS, rng)
    turns = [text for item in asked for text in (item["question"], item["answer"])]
    turns = turns[: 2 * rng.integers(1, _NUM_QUESTIONS + 1)]
    knowledge = express(Meaning(tuple(everything)), rng)
    return {"knowledge": knowledge, "src": TURN_SEPARATOR.join(turns[:-1]), "tgt": turns[-1]}


def _thing(item: SceneObject) -> Mention:
    return Mention(item.colour, item.shape)


TABLES: dict[str, Callable[[Scene, Scene, np.random.Generator], Row]] = {
    "sentences": write_sentences,
    "likeness": write_likeness,
    "headlines": write_headline,
    "dialogue": write_dialogue,
}
