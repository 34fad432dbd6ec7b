"""F1 and exact match of answers in a conversation, after the rules of CoQA's evaluation.

An answer is compared with each person's answer, by the words that both have. Where several people
answered, each is left out in turn and the best of the others counts, so that a person and a model
are measured alike (Reddy et al., 2019, section 5.1).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.rouge import check_texts

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
# What a passage's source is called in the files: what the official program prints.
IN_DOMAIN = {
    "mctest": "children_stories",
    "gutenberg": "literature",
    "race": "mid-high_school",
    "cnn": "news",
    "wikipedia": "wikipedia",
}
OUT_DOMAIN = {"reddit": "reddit", "science": "science"}


def normalise_answer(answer: str) -> str:
    """Return an answer in lower case without punctuation, articles and spare spaces."""
    bare = answer.lower().translate(WITHOUT_PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", bare).split())


def answer_scores(
    predictions: Sequence[str], answers: Sequence[Sequence[str]]
) -> dict[str, np.ndarray]:
    """Return ``f1`` and ``exact_match`` [Q] of predicted answers, each from 0 to 1.

    Args:
        predictions: [Q], one answer a question.
        answers: [Q] lists of what people answered.
    """
    check_texts("F1 of answers", predictions, answers)
    pairs = list(zip(predictions, answers, strict=True))
    return {
        "f1": np.array([_best_of_others([_f1(p, a) for a in texts]) for p, texts in pairs]),
        "exact_match": np.array(
            [_best_of_others([_exact_match(p, a) for a in texts]) for p, texts in pairs]
        ),
    }


def domain_members(sources: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Return which questions [Q] belong to each domain that has some, to each side and to all.

    Args:
        sources: [Q], of the passages: mctest, gutenberg, race, cnn, wikipedia, reddit, science.
    """
    names = np.asarray(sources)
    known = IN_DOMAIN | OUT_DOMAIN
    unknown = [name for name in np.unique(names).tolist() if name not in known]
    if unknown:
        raise UserError(f"CoQA: source {unknown[0]!r} is unknown; give one of {', '.join(known)}")
    members = {title: names == name for name, title in known.items()}
    members["in_domain"] = np.isin(names, list(IN_DOMAIN))
    members["out_domain"] = np.isin(names, list(OUT_DOMAIN))
    members["overall"] = np.ones(len(names), bool)
    return {title: is_member for title, is_member in members.items() if is_member.any()}


def _best_of_others(scores: Sequence[float]) -> float:
    """The mean, over the people left out in turn, of the best score with the others."""
    if len(scores) == 1:
        return float(scores[0])
    best, second = sorted(scores, reverse=True)[:2]
    return (best * (len(scores) - 1) + second) / len(scores)


def _exact_match(prediction: str, answer: str) -> float:
    return float(normalise_answer(prediction) == normalise_answer(answer))


def _f1(prediction: str, answer: str) -> float:
    words, others = normalise_answer(prediction).split(), normalise_answer(answer).split()
    if not words or not others:
        return float(words == others)
    num_same = (Counter(words) & Counter(others)).total()
    return 2.0 * num_same / (len(words) + len(others))
