"""Accuracy of answers to questions about images, after the rules of VQA's evaluation.

Ten people answered each question (Antol et al., 2015; Goyal et al., 2017, VQA v2). An answer is
right to the share min(people who gave it / 3, 1), averaged over the ten sets of nine people.
Answers are compared after ``normalise_answer``; the official program leaves some of what people
answered as it is in the file, which is nearly always normalised already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from unimo_paddle.errors import UserError

ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"}
NUMBERS |= {"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'  # a colon and an apostrophe stay
# The official expression means to keep the periods of numbers, but its look-behind is misspelt:
# whatever stands before it, a period goes unless a digit follows.
PERIOD = re.compile(r"\.(?!\d)")
DIGITS_WITH_COMMA = re.compile(r"\d,\d")

# Each is also meant where any one of its apostrophes is missing.
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't
    mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've
    should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
    someone'll someone's something'd something'd've something'll that's there'd there'd've there're
    there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
    what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll
    you're you've
"""
CONTRACTIONS = {
    form[:i] + form[i + 1 :]: form
    for form in _CONTRACTED.split()
    for i, letter in enumerate(form)
    if letter == "'"
}
CONTRACTIONS["somebody'd"] = "somebodyd"  # the official list has this one the other way round


@lru_cache(maxsize=1 << 16)  # ten people say few different things
def normalise_answer(answer: str) -> str:
    """Return an answer in the form in which VQA's evaluation compares it.

    New lines and tabs become spaces. A punctuation mark is removed where it touches a space
    anywhere, or where the answer has digits around a comma; else it becomes a space. Periods go
    unless a digit follows. Words become lower case, number words digits; articles are dropped and
    apostrophes put where a contraction lacks one.
    """
    answer = answer.replace("\n", " ").replace("\t", " ").strip()
    joins_all = DIGITS_WITH_COMMA.search(answer) is not None
    text = answer
    for mark in PUNCTUATION:
        joins = joins_all or f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if joins else " ")
    words = [NUMBERS.get(word, word) for word in PERIOD.sub("", text).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def vqa_accuracy(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> float:
    """Return the mean accuracy of predicted answers, from 0 to 1.

    Args:
        predictions: [Q], one answer a question.
        answers: [Q] lists of what people answered, ten each in VQA.
    """
    if len(predictions) != len(answers) or not len(predictions):
        raise UserError(
            f"VQA accuracy of {len(predictions)} predictions for {len(answers)} questions; give "
            "one prediction for each question, and at least one question"
        )
    return float(np.mean([answer_accuracy(*pair) for pair in zip(predictions, answers)]))


def answer_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return the accuracy of one answer: min(matches / 3, 1), mean over all sets of all but one."""
    wanted = normalise_answer(prediction)
    num_matches = sum(normalise_answer(answer) == wanted for answer in answers)
    num_others = len(answers) - num_matches
    # Who gave this answer is missing in `num_matches` of the sets. Whole numbers: no rounding.
    thirds = num_matches * min(num_matches - 1, 3) + num_others * min(num_matches, 3)
    return thirds / (3 * len(answers)) if answers else 0.0


def soft_targets(answers: Sequence[str], vocabulary: Mapping[str, int]) -> np.ndarray:
    """Return the target score of every answer of the vocabulary. Shape [C], float32, from 0 to 1.

    An answer that 1, 2 or 3 people gave scores 0.3, 0.6 or 0.9, and 1.0 from four people on: its
    accuracy among ten, as in the public recipe (Teney et al., 2018; bottom-up-attention-vqa). All
    are 0 where nobody's answer is in the vocabulary.

    Args:
        answers: what people answered.
        vocabulary: answers as ``normalise_answer`` returns them, with their places.
    """
    scores = np.zeros(len(vocabulary), np.float32)
    for answer, count in Counter(map(normalise_answer, answers)).items():
        if answer in vocabulary:
            scores[vocabulary[answer]] = min(3 * count, 10) / 10
    return scores


def answer_vocabulary(
    answers: Iterable[str], *, min_count: int = 1, size: int | None = None
) -> dict[str, int]:
    """Return the frequent answers with their places, most frequent first, ties by alphabet.

    The public recipe takes each question's most common answer of the training and validation
    splits and ``min_count=9``, which leaves about 3,129 answers.

    Args:
        answers: one entry an occurrence; they are normalised, and empty ones left out.
        min_count: occurrences that an answer needs.
        size: the most answers that are kept; none means all.
    """
    if min_count < 1 or (size is not None and size < 1):
        raise UserError(
            f"answer vocabulary with min_count {min_count} and size {size}; give numbers of at "
            "least 1, or no size"
        )
    counts = Counter(map(normalise_answer, answers))
    del counts[""]
    kept = [answer for answer, count in counts.items() if count >= min_count]
    if not kept:
        raise UserError(
            f"answer vocabulary: none of {len(counts)} answers occurs {min_count} times; lower "
            "min_count"
        )
    kept.sort(key=lambda answer: (-counts[answer], answer))
    return {answer: place for place, answer in enumerate(kept[:size])}
