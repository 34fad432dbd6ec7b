"""The exact probability of a caption, given its scene: the bound of every captioning model.

The probability that the generator of `language` says just these words is the sum over everything
that it could have meant by them. No odds stand here: each step of the generator is run with every
answer that its random source could give (`outcomes`), and a step that asks for something new fails
by name. What is known here of the language are two things, to leave out what cannot lead to the
words: objects are said in the order of their mentions, each with its place beside it, and a frame
leaves the sentence in it as it is.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from unimo_paddle.data.scenes.dataset import VERSION, read_manifest
from unimo_paddle.data.scenes.grammar import Scene, SceneObject
from unimo_paddle.data.scenes.language import (
    describe,
    frame,
    locate,
    sample_mention,
    sample_placed,
    sample_setting,
    sample_topic,
    say_objects,
)
from unimo_paddle.data.scenes.meaning import Meaning, Mention
from unimo_paddle.errors import UserError

Value = TypeVar("Value", bound=Hashable)


def first_caption_entropy(
    folder: Path, split: str, encode: Callable[[str], Sequence[int]]
) -> float:
    """Return the generator's own entropy on a split's first captions, in nats a token.

    It is minus the mean of log p(caption | scene): what a model scores that knows the scenes and
    the generator. Only first captions count: the others are drawn until they differ.

    Args:
        folder: written by `ensure_scenes`.
        split: "train", "test" or "test_novel".
        encode: a tokenizer's; a caption counts one token more than it returns, the end.

    Raises:
        UserError: the folder was not written by this version of the generator.
    """
    version = read_manifest(folder).get("version")
    path = Path(folder) / f"{split}.jsonl"
    if version != VERSION:
        raise UserError(f"{folder} holds scenes of version {version}, not {VERSION}; delete it")
    if not path.is_file():
        raise UserError(f"{path}: no such file; choose the split train, test or test_novel")
    total, num_tokens = 0.0, 0
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        record = json.loads(text)
        caption = record["captions"][0]
        log_probability = caption_log_probability(scene_of(record["graph"]), caption)
        if log_probability == -math.inf:
            raise UserError(
                f"{path}:{line}: {caption!r} cannot be said of its scene; delete the folder"
            )
        total -= log_probability
        num_tokens += len(encode(caption)) + 1
    if num_tokens == 0:
        raise UserError(f"{path} holds no captions; choose another split")
    return total / num_tokens


def are_sayable(path: Path, captions: Mapping[str, str]) -> np.ndarray:
    """Return which captions [S] the generator could have said: true, and in its words.

    Args:
        path: a file of images with captions, written by `ensure_scenes`.
        captions: by the image, as the file names it.
    """
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    sayable = [
        caption_log_probability(scene_of(record["graph"]), captions[record["image"]]) > -math.inf
        for record in records
        if record["image"] in captions
    ]
    return np.array(sayable, bool)


def caption_log_probability(scene: Scene, caption: str) -> float:
    """Return the log of the probability that one draw says just this caption of a scene.

    One draw is `express(sample_meaning(scene, rng), rng)`; minus infinity if it cannot say so.
    """
    settings = outcomes(lambda rng: sample_setting(scene, rng))
    probability = 0.0
    for (mentions, relations), weight in _told(scene, caption).items():
        objects = Meaning(mentions, relations)
        for sentence, chance in outcomes(lambda rng, of=objects: say_objects(of, rng)).items():
            if sentence not in caption:
                continue
            for setting, odds in settings.items():
                meaning = Meaning(mentions, relations, *setting)
                framed = outcomes(lambda rng, s=sentence, m=meaning: frame(s, m, rng))
                probability += weight * chance * odds * framed.get(caption, 0.0)
    return math.log(probability) if probability > 0 else -math.inf


def scene_of(graph: dict) -> Scene:
    """Return the scene of a graph as far as words can tell it.

    Objects, relations and ground are those of the scene that `scene_graph` was given; the graph
    does not keep tones, angles and textures, so this one is to be described, not drawn.
    """
    objects = tuple(
        SceneObject(
            item["shape"],
            item["colour"],
            item["pattern"],
            item["size"],
            (item["cell"][0], item["cell"][1]),
            centre=((item["cell"][1] + 0.5) / 3, (item["cell"][0] + 0.5) / 3),
            radius=0.0,
            angle=0.0,
            tone=(0.0, 0.0, 0.0),
        )
        for item in graph["objects"]
    )
    in_front = {
        (subject, other)
        for subject, relation, other in graph["relations"]
        if relation == "in front of"
    }
    indices = range(len(objects))
    # Words depend on whether an object hides another, not on how much of it.
    covered = tuple(tuple(float((j, i) in in_front) for j in indices) for i in indices)
    return Scene(objects, graph["background"], 0, covered)


def outcomes(draw: Callable[[Any], Value]) -> dict[Value, float]:
    """Return the probability of everything that a function of a random source can return.

    The function runs once for each sequence of answers, so it must ask for few. It may use
    `rng.random() < p`, `rng.random(n) < p`, `rng.integers(n)` and `rng.permutation(n)`.
    """
    results: dict[Value, float] = defaultdict(float)
    script: list[_Fork] = []
    while True:
        result = draw(_ScriptedSource(script))
        results[result] += math.prod(fork.odds[fork.choice] for fork in script)
        while script and script[-1].choice == len(script[-1].odds) - 1:
            script.pop()
        if not script:
            return dict(results)
        script[-1].choice += 1


class _Fork:
    """One answer of a random source: the odds of each that it can give, and the one it gives."""

    def __init__(self, odds: tuple[float, ...]) -> None:
        self.odds = odds
        self.choice = 0


class _ScriptedSource:
    """A random source that answers as its script says, and adds to it the first answer of all."""

    def __init__(self, script: list[_Fork]) -> None:
        self._script = script
        self._asked = 0

    def choose(self, odds: tuple[float, ...]) -> int:
        if self._asked == len(self._script):
            self._script.append(_Fork(odds))
        fork = self._script[self._asked]
        assert fork.odds == odds, "the function does not depend on its random source alone"
        self._asked += 1
        return fork.choice

    def random(self, size: int | None = None) -> _Threshold:
        return _Threshold(self, size)

    def integers(self, high: int) -> int:
        return self.choose((1 / high,) * high)

    def permutation(self, size: int) -> _Order:
        return _Order(self, size, size)


class _Threshold:
    """Uniform numbers of which nothing is known but that they are less than one value, or not."""

    def __init__(self, source: _ScriptedSource, size: int | None) -> None:
        self._source = source
        self._size = size
        self._is_compared = False

    def __lt__(self, value: float) -> bool | list[bool]:
        # A second comparison would not be independent of the first.
        assert not self._is_compared, "a random number is compared twice"
        self._is_compared = True
        odds = (value, 1 - value)
        if self._size is None:
            return self._source.choose(odds) == 0
        return [self._source.choose(odds) == 0 for _ in range(self._size)]


class _Order:
    """The first numbers of a permutation, drawn when they are read: unread, they cost nothing."""

    def __init__(self, source: _ScriptedSource, size: int, length: int) -> None:
        self._source = source
        self._size = size
        self._length = length

    def __getitem__(self, part: slice) -> _Order:
        assert part.start is None and part.step is None, part
        return _Order(self._source, self._size, min(part.stop, self._length))

    def __iter__(self) -> Iterator[int]:
        left = list(range(self._size))
        for _ in range(self._length):
            yield left.pop(self._source.integers(len(left)))


def _told(
    scene: Scene, caption: str
) -> dict[tuple[tuple[Mention, ...], tuple[tuple[int, str, int], ...]], float]:
    """Return the probabilities of the mentions and relations that may have led to a caption."""
    told = defaultdict(float)
    for (order, relations), weight in outcomes(lambda rng: sample_topic(scene, rng)).items():
        for placed, chance in _placed_outcomes(len(order), bool(relations)).items():
            # Mentions so far, where the next may begin in the caption, their probability.
            partial: list[tuple[tuple[Mention, ...], int, float]] = [((), 0, weight * chance)]
            for index, is_placed in zip(order, placed, strict=True):
                options = _mention_outcomes(scene.objects[index], is_placed).items()
                partial = [
                    ((*before, mention), end, so_far * odds)
                    for before, start, so_far in partial
                    for mention, odds in options
                    if (end := _end_of(mention, caption, start)) is not None
                ]
            for mentions, _, probability in partial:
                told[mentions, relations] += probability
    return told


def _end_of(mention: Mention, caption: str, start: int) -> int | None:
    """Return where a mention's earliest words end in a caption; None if it has none there."""
    ends = [
        at + len(words) for words in _words_of(mention) if (at := caption.find(words, start)) >= 0
    ]
    return min(ends, default=None)


# The steps below do not depend on a whole scene, so they are tried once for many captions.


@cache
def _placed_outcomes(num_mentions: int, relational: bool) -> dict[tuple[bool, ...], float]:
    return outcomes(lambda rng: sample_placed(num_mentions, rng, relational=relational))


@lru_cache(maxsize=10_000)
def _mention_outcomes(item: SceneObject, with_place: bool) -> dict[Mention, float]:
    return outcomes(lambda rng: sample_mention(item, rng, with_place=with_place))


@lru_cache(maxsize=50_000)
def _words_of(mention: Mention) -> tuple[str, ...]:
    """Return the ways to say an object with its place behind or before it."""
    names = outcomes(lambda rng: describe(mention, rng))
    if not mention.place:
        return tuple(names)
    places = outcomes(lambda rng: locate(mention.place, rng))
    pairs = list(product(names, places))
    return tuple(f"{a} {b}" for a, b in pairs) + tuple(f"{b} {a}" for a, b in pairs)
