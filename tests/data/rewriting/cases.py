"""Captions, parsed, and what is made of them; imported by the tests beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from unimo_paddle.data.rewriting.changes import find_changes
from unimo_paddle.data.rewriting.corpus import Corpus, CorpusCounts
from unimo_paddle.data.rewriting.graph import SceneGraph, parse_caption
from unimo_paddle.data.rewriting.knowledge import Knowledge, read_graph
from unimo_paddle.data.rewriting.lexicon import built_in_lexicon
from unimo_paddle.data.rewriting.tagging import tag
from unimo_paddle.data.sources import PairRecord

# What the captions of other images say: all that may be put in.
OTHERS = (
    "A brown horse and a white cat stand under a large umbrella .",
    "An orange elephant and two black horses walk through the snow .",
    "Two women ride green motorcycles past a red tunnel .",
    "A man in a purple kimono plays a white guitar on a yellow couch .",
    "A clown in a pink bikini throws a blue frisbee in a kitchen .",
    "Three skiers sit on a wooden bed .",
)


def parse(caption: str) -> SceneGraph:
    return parse_caption(caption, tag(caption), built_in_lexicon())


def corpus_of(*captions: str) -> Corpus:
    counts = CorpusCounts()
    for caption in captions:
        counts.add(parse(caption))
    return counts.corpus(built_in_lexicon())


def knowledge_of(*captions: str, graph: dict | None = None) -> Knowledge:
    lexicon = built_in_lexicon()
    return Knowledge(list(map(parse, captions)), lexicon, graph=read_graph(graph, lexicon))


def rewrites(caption: str, *others: str, graph: dict | None = None) -> dict[str, list[str]]:
    """The false captions by kind of one caption, of whose image the others are captions, too."""
    knowledge = knowledge_of(caption, *others, graph=graph)
    corpus = corpus_of(*OTHERS, caption, *others)
    rng = np.random.default_rng(0)
    found = find_changes(parse(caption), knowledge, corpus, built_in_lexicon(), rng)
    return {kind: [span.apply(caption) for span in spans] for kind, spans in found.items()}


def make_records(*images: Sequence[str]) -> list[PairRecord]:
    return [
        PairRecord(Path(f"{number}.jpg"), tuple(captions), group=number)
        for number, captions in enumerate(images)
    ]


def write_pairs(folder: Path, *images: Sequence[str]) -> Path:
    """Write a pair file with grey pictures, one for each list of captions."""
    lines = []
    for number, captions in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.jpg"), np.full((8, 8, 3), number % 250, np.uint8))
        lines.append(json.dumps({"image": f"{number}.jpg", "captions": list(captions)}))
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
