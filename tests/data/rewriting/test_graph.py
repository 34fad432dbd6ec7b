"""The scene graph of a caption: its objects, attributes and relations."""

from __future__ import annotations

import pytest

from tests.data.rewriting.cases import parse
from unimo_paddle.data.rewriting.graph import SceneGraph, join


def objects_of(graph: SceneGraph) -> list[str]:
    return [join(graph.words, m.head, m.last) for m in graph.mentions]


def attributes_of(graph: SceneGraph) -> list[list[str]]:
    return [[join(graph.words, a.first, a.last) for a in m.attributes] for m in graph.mentions]


def relations_of(graph: SceneGraph) -> list[tuple[str, int | None, int | None]]:
    return [(join(graph.words, r.first, r.last), r.subject, r.target) for r in graph.relations]


def test_objects_attributes_and_relations() -> None:
    graph = parse("A young boy in a red shirt rides a green bicycle .")
    assert objects_of(graph) == ["boy", "shirt", "bicycle"]
    assert attributes_of(graph) == [["young"], ["red"], ["green"]]
    assert relations_of(graph) == [("in", 0, 1), ("rides", 1, 2)]


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("A dog park near the beach .", ["park", "beach"]),
        ("A boy hits a tennis ball .", ["boy", "tennis ball"]),
        ("Two hot dogs lie on a plate .", ["hot dogs"]),
        ("A woman in a sky blue coat .", ["woman", "coat"]),
    ],
)
def test_a_noun_before_a_noun_is_no_object(caption: str, objects: list[str]) -> None:
    assert [name for name in objects_of(parse(caption)) if name != "dish"] == objects


def test_nouns_before_the_name_belong_to_the_noun() -> None:
    graph = parse("A man stands on the rope bridge .")
    mention = graph.mentions[1]
    assert join(graph.words, mention.noun, mention.last) == "rope bridge"


def test_two_colours_of_one_thing() -> None:
    assert attributes_of(parse("A black and white dog barks .")) == [["black", "white"]]


@pytest.mark.parametrize(
    ("caption", "number"),
    [("A horse eats .", "singular"), ("Two horses eat .", "plural"), ("It runs on sand .", "mass")],
)
def test_the_number_of_the_noun(caption: str, number: str) -> None:
    assert parse(caption).mentions[0].number == number


def test_places_of_objects_in_a_drawn_scene() -> None:
    graph = parse("a red circle in the upper left and in the lower right a blue star")
    assert attributes_of(graph) == [["red", "upper left"], ["blue", "lower right"]]


@pytest.mark.parametrize("caption", ["", "...", "!", "the", "a a a", "\u00e9t\u00e9 \u4e2d\u6587"])
def test_a_caption_of_nothing_known_has_an_empty_graph(caption: str) -> None:
    graph = parse(caption)
    assert (graph.mentions, graph.relations) == ((), ())
