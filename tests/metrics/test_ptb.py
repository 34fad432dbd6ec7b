"""The words of captions against what COCO's scorer made of them in Java."""

from __future__ import annotations

import pytest

from unimo_paddle.metrics.ptb import caption_words

# Captions with the Java tokenizer's words: tylin/coco-caption, misc/debug.ref.json and
# misc/debug.tokenized_ref.json, without the full stops and commas that the scorer drops.
TOKENIZED = [
    (
        "Several people seated in chairs in a waiting room with a Snapple vending machine in the "
        "far corner of the room.",
        "several people seated in chairs in a waiting room with a snapple vending machine in the "
        "far corner of the room",
    ),
    ("Two ducks floating in a green, grassy pond.", "two ducks floating in a green grassy pond"),
    (
        "A peerson standing on the end of a trolley.",
        "a peerson standing on the end of a trolley",
    ),
    ("a very old airplane that is inside a buliding",) * 2,
]
# The rules of the Penn Treebank.
RULES = [
    ("A dog isn't in the man's car.", "a dog is n't in the man 's car"),
    ("You cannot ride it; they're gonna fall!", "you can not ride it they 're gon na fall"),
    ("A dog runs. It jumps...", "a dog runs it jumps"),
    ("Mr. Smith at the U.S. embassy", "mr. smith at the u.s. embassy"),
    ("a half-eaten cake -- and a clock: 3:30", "a half-eaten cake and a clock 3:30"),
    ('the "big" one', "the big one"),
    ("the \u201cbig\u201d one \u2018here\u2019", "the big one here"),
    ("a cake (half) on\n a plate", "a cake -lrb- half -rrb- on a plate"),
    ("1,000 bananas for $5", "1,000 bananas for $ 5"),
    ("", ""),
]


@pytest.mark.parametrize(("caption", "words"), TOKENIZED)
def test_words_are_those_of_the_scorer(caption: str, words: str) -> None:
    assert " ".join(caption_words(caption)) == words


@pytest.mark.parametrize(("caption", "words"), RULES)
def test_words_follow_the_treebank(caption: str, words: str) -> None:
    assert " ".join(caption_words(caption)) == words
