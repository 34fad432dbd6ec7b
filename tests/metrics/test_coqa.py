"""Answers in conversations against what follows by hand from the official rules."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.coqa import answer_scores, domain_members, normalise_answer


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("The White House.", "white house"),
        ("a  man, an apple", "man apple"),
        ("It's her mother-in-law's", "its her motherinlaws"),
        ("the", ""),
        ("theatre", "theatre"),
    ],
)
def test_answers_lose_case_punctuation_and_articles(answer: str, normalised: str) -> None:
    assert normalise_answer(answer) == normalised


@pytest.mark.parametrize(
    ("prediction", "answers", "f1", "exact_match"),
    [
        ("a white cat", ["White Cat!"], 1.0, 1.0),
        ("the cat", ["a white cat"], 2 / 3, 0.0),
        ("dog dog", ["dog"], 2 / 3, 0.0),
        ("dog", ["cat"], 0.0, 0.0),
        ("", [""], 1.0, 1.0),
        ("the", ["cat"], 0.0, 0.0),
        # Without the second person the best of the others is 2/3, with her it is 1.
        ("cat", ["white cat", "cat", "dog"], (1.0 + 2 / 3 + 1.0) / 3, 2 / 3),
        ("cat", ["cat", "cat", "dog", "dog"], 1.0, 1.0),
    ],
)
def test_each_person_is_left_out_in_turn(prediction, answers, f1, exact_match) -> None:
    found = answer_scores([prediction], [answers])
    assert found["f1"][0] == pytest.approx(f1, abs=1e-12)
    assert found["exact_match"][0] == pytest.approx(exact_match, abs=1e-12)


def test_domains_are_named_as_the_official_program_names_them() -> None:
    members = domain_members(["race", "reddit", "cnn", "race"])
    assert list(members) == [
        *("mid-high_school", "news", "reddit", "in_domain", "out_domain", "overall"),
    ]
    np.testing.assert_array_equal(members["mid-high_school"], [True, False, False, True])
    np.testing.assert_array_equal(members["in_domain"], [True, False, True, True])
    assert members["overall"].all()


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(UserError, match="CoQA: source 'web' is unknown; give one of mctest"):
        domain_members(["cnn", "web"])


def test_a_question_without_answers_is_refused() -> None:
    with pytest.raises(UserError, match="F1 of answers: text 0 has no reference"):
        answer_scores(["a"], [[]])
