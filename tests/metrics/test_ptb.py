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
# What stanford-corenlp-3.4.1.jar, which the scorer runs, made of these with its options.
RECORDED = [
    ("He isn't in the man's car, I'd say.", "he is n't in the man 's car i 'd say"),
    ("cannot gonna wanna gotta lemme", "can not gon na wan na got ta lem me"),
    ("A man. A plan.", "a man a plan"),
    ("Wait... what?! wow!! The boy? A dog!", "wait what ?! wow !! the boy a dog"),
    ("A sign on Main St. near Mr. Smith", "a sign on main st. near mr. smith"),
    ("The corner of Main St.", "the corner of main st."),
    ("a U.S. embassy in the U.S.", "a u.s. embassy in the u.s."),
    ("A TV. it is on. a t.v. is on", "a tv it is on a t.v. is on"),
    ("a well-known half--eaten cake at 3:30 p.m.", "a well-known half eaten cake at 3:30 p.m."),
    ("it is \"big\" and 'small'", "it is big and small"),
    ("A dog (brown) [big] {odd}", "a dog -lrb- brown -rrb- -lsb- big -rsb- -lcb- odd -rcb-"),
    ("AT&T sign & R&B at 5% off for $5.00", "at&t sign & r&b at 5 % off for $ 5.00"),
    ("a black/white cat, 1,000 bananas", "a black/white cat 1,000 bananas"),
]


@pytest.mark.parametrize(("caption", "words"), TOKENIZED)
def test_words_are_those_of_the_scorer(caption: str, words: str) -> None:
    assert " ".join(caption_words(caption)) == words


@pytest.mark.parametrize(("caption", "words"), RECORDED)
def test_words_are_those_of_stanfords_tokenizer(caption: str, words: str) -> None:
    assert " ".join(caption_words(caption)) == words


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A bus numbered 51. It is red.", "a bus numbered 51 it is red"),
        ("It costs 3.50. The 2nd. one", "it costs 3.50 the 2nd one"),
        ("This is the man's. It isn't. I'd. go", "this is the man 's it is n't i 'd go"),
        ("The dogs'. They 'rest'. Here", "the dogs they rest here"),
        ('It says "stop." Then (so.) it goes', "it says stop then -lrb- so -rrb- it goes"),
    ],
)
def test_a_period_inside_a_caption_stays_with_no_word(caption: str, words: str) -> None:
    """By the rules of Stanford's tokenizer, whose words take no period but in abbreviations."""
    assert " ".join(caption_words(caption)) == words


def test_quotes_and_white_space_of_any_kind_are_taken() -> None:
    assert caption_words("the \u201cbig\u201d one\n \u2018here\u2019") == [
        "the",
        "big",
        "one",
        "here",
    ]
    assert caption_words("") == []


@pytest.mark.parametrize("mark", ["\u2013", "\u2014", "\u2015", "\u2026"])
def test_dashes_and_dots_of_one_letter_are_no_words(mark: str) -> None:
    """Stanford's tokenizer writes them as two hyphens and three periods, which the scorer drops."""
    assert caption_words(f"a dog {mark} brown{mark}white{mark}") == ["a", "dog", "brown", "white"]
