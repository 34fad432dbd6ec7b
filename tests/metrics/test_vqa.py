"""VQA accuracy against hand-worked examples and against the leave-one-out sets themselves."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.intervals import interval
from unimo_paddle.metrics.vqa import (
    CONTRACTIONS,
    answer_accuracy,
    answer_vocabulary,
    normalise_answer,
    soft_targets,
    vqa_accuracy,
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes", "yes"),
        ("  yes  ", "yes"),
        ("a dog", "dog"),
        ("The Man and an apple", "man and apple"),
        ("a", ""),
        ("another theatre", "another theatre"),  # only whole words are articles
        ("two", "2"),
        ("None", "0"),
        ("zero", "0"),
        ("Ten", "10"),
        ("eleven", "eleven"),
        ("someone", "someone"),  # no number inside a word
        ("twenty one", "twenty 1"),
        ("dont know", "don't know"),
        ("Its", "its"),
        ("cant", "can't"),
        ("shouldntve", "shouldntve"),  # two apostrophes are missing: not in the list
        ("shouldnt've", "shouldn't've"),
        ("shouldn'tve", "shouldn't've"),
        ("yall'd've", "y'all'd've"),
        ("twas", "'twas"),
        ("'ow'sat", "'ow's'at"),
        ("somebody'd", "somebodyd"),
        ("5 oclock", "5 o'clock"),
        ("man's", "man's"),  # an apostrophe is no punctuation here
        ("12:30", "12:30"),  # nor is a colon
        ("yes.", "yes"),
        ("st. mary", "st mary"),
        ("3.5", "3.5"),
        ("u.s.a.", "usa"),
        (".5", ".5"),
        ("no. 7.", "no 7"),
        ("v.2", "v.2"),
        ("1,000", "1000"),
        ("red,blue", "red blue"),  # no space beside the comma: it becomes one
        ("red, blue", "red blue"),
        ("red ,blue", "red blue"),
        ("1,000 black-white", "1000 blackwhite"),  # digits around a comma: every mark is removed
        ("black-and-white", "black and white"),
        ("black - and-white", "black andwhite"),  # one mark beside a space removes all like it
        ("ice-cream?", "ice cream"),
        ("yes/no", "yes no"),
        ("what?!", "what"),
        ("(left)", "left"),
        ("a_b [c] {d}", "b c d"),  # here the brackets touch a space and the line does not
        ('"stop"', "stop"),
        ("rock & roll", "rock & roll"),
        ("hot\ndog", "hot dog"),
        ("hot\tdog\n", "hot dog"),
        ("hot   dog", "hot dog"),
        ("-", ""),
        ("", ""),
    ],
)
def test_answer_is_normalised_as_the_rules_say(answer: str, expected: str) -> None:
    assert normalise_answer(answer) == expected


def test_contractions_are_as_many_as_in_the_official_list() -> None:
    # 120 entries, less those that change nothing or hold a capital, which no word keeps.
    assert len(CONTRACTIONS) == 120 - len({"let's", "she's", "Im", "Ive", "Id've", "I'dve"})


@pytest.mark.parametrize(
    ("num_matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_accuracy_among_ten_is_the_one_worked_out_by_hand(
    num_matches: int, expected: float
) -> None:
    answers = ["Two"] * num_matches + ["red"] * (10 - num_matches)
    assert answer_accuracy("2", answers) == expected


@pytest.mark.parametrize("num_answers", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_the_mean_over_all_sets_of_all_but_one(num_answers: int, seed: int) -> None:
    answers = list(np.random.default_rng(seed).choice(["yes", "no"], num_answers))
    shares = []
    for left_out in range(num_answers):
        others = answers[:left_out] + answers[left_out + 1 :]
        shares.append(min(others.count("yes") / 3, 1))
    assert answer_accuracy("yes", answers) == pytest.approx(np.mean(shares))


def test_accuracy_of_a_set_is_the_mean_of_its_questions() -> None:
    answers = [["yes"] * 10, ["a cat"] * 2 + ["dog"] * 8]
    assert vqa_accuracy(["Yes.", "cat"], answers) == pytest.approx(0.8)


def test_interval_of_the_accuracy_holds_it() -> None:
    predictions, answers = ["yes"] * 40, [["yes"] * (i % 5) + ["no"] * 6 for i in range(40)]
    low, high = interval(vqa_accuracy, predictions, answers, seed=0, num_resamples=200)
    assert low < vqa_accuracy(predictions, answers) < high


@pytest.mark.parametrize(("predictions", "answers"), [([], []), (["yes"], [])])
def test_a_prediction_for_each_question_is_demanded(predictions: list, answers: list) -> None:
    with pytest.raises(UserError, match="give one prediction for each question"):
        vqa_accuracy(predictions, answers)


def test_soft_targets_are_the_accuracies_of_the_answers() -> None:
    answers = ["cat"] * 4 + ["A cat"] + ["dog", "Dog."] + ["two"] + ["bird"] * 2
    vocabulary = {"2": 0, "cat": 1, "dog": 2, "cow": 3}
    found = soft_targets(answers, vocabulary)
    np.testing.assert_array_equal(found, np.array([0.3, 1.0, 0.6, 0.0], "float32"))
    expected = [answer_accuracy(answer, answers) for answer in vocabulary]
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize("count", range(1, 8))
def test_soft_target_grows_by_three_tenths_up_to_one(count: int) -> None:
    (found,) = soft_targets(["yes"] * count, {"yes": 0})
    assert found == np.float32(min(round(0.3 * count, 1), 1.0))


def test_answers_outside_the_vocabulary_have_no_target() -> None:
    assert soft_targets(["red"] * 10, {"yes": 0, "no": 1}).tolist() == [0.0, 0.0]


ANSWERS = ["yes", "no", "Yes.", "a", "no", "red", "blue", "the red", "yes", "2", "two"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["yes", "2", "no", "red", "blue"]),  # ties by alphabet
        ({"min_count": 2}, ["yes", "2", "no", "red"]),
        ({"min_count": 3}, ["yes"]),
        ({"size": 2}, ["yes", "2"]),
        ({"size": 99, "min_count": 2}, ["yes", "2", "no", "red"]),
    ],
)
def test_vocabulary_holds_the_frequent_answers(settings: dict, expected: list[str]) -> None:
    assert list(answer_vocabulary(ANSWERS, **settings)) == expected


def test_vocabulary_does_not_depend_on_the_order_of_answers() -> None:
    forward, backward = answer_vocabulary(ANSWERS), answer_vocabulary(reversed(ANSWERS))
    assert list(forward.items()) == list(backward.items())
    assert list(forward.values()) == list(range(len(forward)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_count": 0}, "min_count 0"),
        ({"size": 0}, "size 0"),
        ({"min_count": 50}, "none of 5 answers occurs 50 times; lower min_count"),
    ],
)
def test_vocabulary_of_nothing_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        answer_vocabulary(ANSWERS, **settings)
