"""Near captions of other images: near first, none that may be true, none of the image itself."""

from __future__ import annotations

import pytest

from tests.data.rewriting.cases import knowledge_of
from unimo_paddle.data.rewriting.lexicon import built_in_lexicon
from unimo_paddle.data.rewriting.sentences import MAX_PER_IMAGE, SentenceIndex

CAPTIONS = (
    "A brown dog runs through the grass .",
    "The dog is in the grass .",
    "A dog runs through the green grass .",
    "A brown horse runs through the grass .",
    "Two cows eat the grass .",
    "A man plays a guitar .",
)
GROUPS = (0, 0, 1, 2, 3, 4)


@pytest.fixture
def index() -> SentenceIndex:
    return SentenceIndex(CAPTIONS, GROUPS, built_in_lexicon(), pool_size=100, seed=0)


def false_of(index: SentenceIndex, number: int, most: int = 10) -> list[int]:
    (candidates,) = index.nearest([number])
    return list(index.false_of(knowledge_of(*CAPTIONS[:2]), candidates, most=most))


def test_nearest_come_first_and_own_captions_not_at_all(index: SentenceIndex) -> None:
    (candidates,) = index.nearest([0])
    assert sorted(candidates[:2]) == [2, 3] and 1 not in candidates


def test_captions_that_say_the_same_are_left_out(index: SentenceIndex) -> None:
    assert sorted(false_of(index, 0)) == [3, 4, 5]


def test_no_more_than_asked_for(index: SentenceIndex) -> None:
    assert false_of(index, 0, most=1) == [3]


def test_one_image_gives_few_captions() -> None:
    captions = (*CAPTIONS[:2], *(f"A brown horse runs through grass {n} ." for n in range(5)))
    groups = (0, 0, *([1] * 5))
    index = SentenceIndex(captions, groups, built_in_lexicon(), pool_size=100, seed=0)
    assert len(false_of(index, 0)) == MAX_PER_IMAGE


def test_one_plain_thing_that_is_missing_is_not_enough() -> None:
    captions = (*CAPTIONS[:2], "A brown dog runs on the beach .", "A dog sits on the beach .")
    index = SentenceIndex(captions, (0, 0, 1, 2), built_in_lexicon(), pool_size=100, seed=0)
    assert false_of(index, 0) == [3]


def test_captions_without_a_word_are_near_nothing() -> None:
    index = SentenceIndex(("...", "!", "?"), (0, 1, 2), built_in_lexicon(), pool_size=9, seed=0)
    assert list(index.nearest([0, 2])) == [[], []]


def test_a_pool_bounds_the_search_and_is_drawn_by_the_seed() -> None:
    captions = [f"A dog and {number} horses ." for number in range(50)]
    groups = range(50)

    def pool(seed: int) -> list[int]:
        index = SentenceIndex(captions, groups, built_in_lexicon(), pool_size=9, seed=seed)
        return sorted(next(index.nearest([0])))

    assert len(pool(1)) in (8, 9) and pool(1) == pool(1) != pool(2)
