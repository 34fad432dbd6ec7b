"""Sequences of ids: marks, cuts, positions, order of generation, roles and turns."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.data.sequences import (
    append_target,
    mark_dialogue,
    mark_ids,
    mark_pair,
    mark_source,
    mark_text,
)

FIRST = 2  # position
END = 99
CHOICES = {"first_position": FIRST, "is_continuous": False}


def ids(sample: dict) -> list[int]:
    return sample["input_ids"].tolist()


def positions(sample: dict) -> list[int]:
    return sample["position_ids"].tolist()


@pytest.mark.parametrize(
    ("words", "length", "expected"),
    [([7, 8], 9, [0, 7, 8, 2]), ([7, 8, 9], 4, [0, 7, 8, 2]), ([], 3, [0, 2])],
)
def test_text_is_marked_and_cut(words: list[int], length: int, expected: list[int]) -> None:
    sample = mark_text(words, length, first_position=FIRST)
    assert ids(sample) == expected
    assert positions(sample) == list(range(FIRST, FIRST + len(expected)))
    assert sample["text_mask"].tolist() == [1.0] * len(expected)


def test_marked_ids_keep_their_end_when_they_are_cut() -> None:
    assert ids(mark_ids([0, 5, 6, 7, 2], 4, first_position=FIRST)) == [0, 5, 6, 2]
    assert ids(mark_ids([0, 5, 2], 4, first_position=FIRST)) == [0, 5, 2]


@pytest.mark.parametrize(
    ("first", "second", "length", "expected"),
    [
        ([5], [6], 5, [0, 5, 2, 6, 2]),
        ([5, 5, 5], [6], 6, [0, 5, 5, 2, 6, 2]),
        ([5], [6, 6, 6], 6, [0, 5, 2, 6, 6, 2]),
        ([5, 5], [6, 6], 6, [0, 5, 5, 2, 6, 2]),  # a tie: the second loses
        ([5, 5], [6, 6], 5, [0, 5, 2, 6, 2]),
    ],
)
def test_the_longer_text_of_a_pair_is_cut(first, second, length, expected) -> None:
    assert ids(mark_pair(first, second, length, first_position=FIRST)) == expected


def test_what_comes_last_is_never_cut() -> None:
    last = {"first_position": FIRST, "last": (9,)}
    assert ids(mark_text([5, 6], 9, **last)) == [0, 5, 6, 9, 2]
    assert ids(mark_text([5, 6, 7], 5, **last)) == [0, 5, 6, 9, 2]
    assert ids(mark_ids([0, 5, 6, 7, 2], 5, **last)) == [0, 5, 6, 9, 2]
    assert ids(mark_ids([0, 5, 2], 5, **last)) == [0, 5, 9, 2]
    assert ids(mark_pair([5, 5], [6, 6], 7, **last)) == [0, 5, 5, 2, 6, 9, 2]


def test_pieces_of_a_source_restart_their_positions() -> None:
    sample = mark_source([[5, 6], [7]], 10, **CHOICES)
    assert ids(sample) == [0, 5, 6, 2, 7, 2]
    assert positions(sample) == [2, 3, 4, 5, 3, 4]
    assert not sample["text_order"].any()


def test_each_piece_is_cut_with_its_end() -> None:
    assert ids(mark_source([[5, 6, 7], [8, 8, 8]], 4, **CHOICES)) == [0, 5, 6, 2, 8, 8, 2]


def test_continuous_positions_go_on_and_the_last_ids_are_kept() -> None:
    sample = mark_source([[5, 6], [7]], 4, first_position=FIRST, is_continuous=True)
    assert ids(sample) == [6, 2, 7, 2]
    assert positions(sample) == [2, 3, 4, 5]


def test_an_empty_source_is_its_marks() -> None:
    assert ids(mark_source([[]], 4, **CHOICES)) == [0, 2]


def test_target_stands_behind_its_source_and_is_predicted_from_it() -> None:
    source = mark_source([[5]], 4, **CHOICES)
    sample = append_target(source, [6, 7], 9, end_id=END, first_position=FIRST)
    assert ids(sample) == [0, 5, 2, 0, 6, 7, END]
    assert positions(sample) == [2, 3, 4, 2, 3, 4, 5]
    assert sample["text_order"].tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert sample["target_positions"].tolist() == [3, 4, 5]
    assert sample["target_ids"].tolist() == [6, 7, END]


def test_a_target_that_is_too_long_loses_its_end() -> None:
    source = mark_source([[5]], 4, **CHOICES)
    sample = append_target(source, [6, 7, 8], 3, end_id=END, first_position=FIRST)
    assert sample["target_ids"].tolist() == [6, 7]
    assert ids(sample)[3:] == [0, 6, 7]


def test_roles_alternate_back_from_the_answer() -> None:
    sample = mark_dialogue([4], [[5], [6], [7]], 9, **CHOICES)
    assert ids(sample) == [0, 4, 2, 5, 2, 6, 2, 7, 2]
    assert sample["role_ids"].tolist() == [1, 2, 2, 1, 1, 0, 0, 1, 1]
    assert sample["turn_ids"].tolist() == [3, 0, 0, 3, 3, 2, 2, 1, 1]
    assert positions(sample) == [2, 3, 4, 3, 4, 3, 4, 3, 4]


def test_a_dialogue_may_know_nothing() -> None:
    sample = mark_dialogue([], [[5], [6]], 9, **CHOICES)
    assert sample["role_ids"].tolist() == [0, 0, 0, 1, 1]
    assert sample["turn_ids"].tolist() == [2, 2, 2, 1, 1]


def test_the_answer_has_role_and_turn_0() -> None:
    source = mark_dialogue([4], [[5]], 9, **CHOICES)
    sample = append_target(source, [6], 9, end_id=END, first_position=FIRST)
    for name in ("role_ids", "turn_ids"):
        assert sample[name][-3:].tolist() == [0, 0, 0]
        assert len(sample[name]) == len(sample["input_ids"])


def test_arrays_have_the_types_of_their_fields() -> None:
    sample = append_target(
        mark_source([[5]], 4, **CHOICES), [6], 9, end_id=END, first_position=FIRST
    )
    floats = {name for name, value in sample.items() if value.dtype == np.float32}
    assert floats == {"text_mask", "target_weights"}
    assert all(sample[name].dtype == np.int64 for name in set(sample) - floats)
