"""Texts that repeat a caption are found by their words, word for word or nearly."""

from __future__ import annotations

import random

import pytest

from unimo_paddle.data.wording import (
    TELLING_WORDS,
    Wordings,
    count_edits,
    sentences_of,
    words_of,
)

CAPTION = "A man in a red coat leads two brown horses over a wooden bridge"


def find(caption: str, text: str) -> list[int]:
    """Edits with which a text repeats a caption; none if it does not."""
    wordings = Wordings()
    wordings.add(words_of(caption), "name")
    return [match.num_edits for match in wordings.find(words_of(text))]


def edits_reference(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """The definition, by recursion."""
    if not first or not second:
        return len(first) + len(second)
    if first[0] == second[0]:
        return edits_reference(first[1:], second[1:])
    return 1 + min(
        edits_reference(first[1:], second),
        edits_reference(first, second[1:]),
        edits_reference(first[1:], second[1:]),
    )


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        (CAPTION, [0]),
        (CAPTION.upper() + " .", [0]),
        (CAPTION.replace("red", "blue"), [1]),
        (CAPTION.replace("red ", ""), [1]),
        (CAPTION.replace("two", "two tall"), [1]),
        (CAPTION.replace("A man", "One man"), [1]),
        (CAPTION.replace("bridge", "path"), [1]),
        (CAPTION.replace("red", "blue").replace("two", "three"), []),
        ("Two brown horses run over a field", []),
    ],
)
def test_a_long_caption_is_found_with_one_word_in_ten_changed(text: str, edits: list[int]) -> None:
    assert find(CAPTION, text) == edits


@pytest.mark.parametrize(
    ("text", "edits"), [("a dog runs .", [0]), ("a cat runs", []), ("the dog runs", [])]
)
def test_a_short_caption_is_found_by_all_its_words_only(text: str, edits: list[int]) -> None:
    assert find("A dog runs", text) == edits


def test_characters_without_spaces_are_words() -> None:
    caption = words_of("一只狗在沙滩上奔跑\uff0c追着球")
    assert len(caption) == 12 and words_of("イヌ2匹、dogs") == ("イ", "ヌ", "2", "匹", "dogs")
    wordings = Wordings()
    wordings.add(caption, "a")
    (match,) = wordings.find(words_of("一只狗在沙滩上奔跑\uff0c追着羊"))
    assert match.name == "a" and match.num_edits == 1


@pytest.mark.parametrize("seed", range(20))
def test_edits_are_those_of_the_definition(seed: int) -> None:
    draw = random.Random(seed)
    first = tuple(draw.choice("ab") for _ in range(draw.randint(0, 7)))
    second = tuple(draw.choice("ab") for _ in range(draw.randint(0, 7)))
    assert count_edits(first, second, 9) == edits_reference(first, second)


def test_more_edits_than_the_most_are_one_more() -> None:
    assert count_edits(tuple("abcdef"), tuple("uvwxyz"), 2) == 3


@pytest.mark.parametrize("seed", range(20))
def test_no_near_wording_is_missed(seed: int) -> None:
    draw = random.Random(seed)
    words = tuple(f"w{draw.randrange(30)}" for _ in range(draw.randint(TELLING_WORDS, 40)))
    changed = list(words)
    for place in draw.sample(range(len(words)), len(words) // 10):
        changed[place] = "other"
    assert find(" ".join(words), " ".join(changed)) == [len(words) // 10]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One dog runs. Two dogs sit!", ["One dog runs.", "Two dogs sit!"]),
        ("It is 3.5 metres long .", ["It is 3.5 metres long ."]),
        ('He said : " Go . " They went .', ['He said : " Go .', '" They went .']),
        ("一只狗。它在跑\uff01", ["一只狗。", "它在跑\uff01"]),
        ("  ", []),
    ],
)
def test_sentences_end_at_punctuation(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences
