"""ROUGE of generated texts: that of ROUGE-1.5.5 (Lin, 2004), and COCO's ROUGE-L by its own name.

What summaries are published with is the Perl program's ``-n 2 -m``: words of letters and digits,
stemmed, F-measure. The library rouge-score computes it; words are stemmed here, because it knows
neither the irregular forms that the Perl program looks up in WordNet before it stems (were: be)
nor the stems of Porter's published algorithm. The forms are a table of the package py-rouge.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from unimo_paddle.errors import UserError

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

# The library's name of a measure by ours. ROUGE-L is of whole summaries: the union, over the
# sentences of a text, of what they share in order with a sentence of the reference.
NAMES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeLsum"}
F_MEASURE = 2  # its place behind precision and recall
WORD = re.compile(r"[A-Za-z0-9]+")
MIN_STEMMED = 4  # letters; shorter words stay as they are
FORMS_PACKAGE = "py-rouge"
# WordNet's exceptions, and words that the Perl program stems unlike Porter's paper.
FORMS_FILES = ("rouge/wordnet_key_value.txt", "rouge/wordnet_key_value_special_cases.txt")
COCO_BETA = 1.2  # how much more recall counts than precision
SHOW_AFTER = 3.0  # seconds without progress on the screen


def rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Return ``rouge_1``, ``rouge_2`` and ``rouge_l`` of each text, from 0 to 1.

    Each is [S, 3]: precision, recall and F-measure; what is published is the mean F-measure. Of
    several references the one with the best F-measure counts.

    Args:
        hypotheses: [S] texts, their sentences separated by new lines.
        references: [S] lists of references like them.
    """
    check_texts("ROUGE", hypotheses, references)
    scorer = _scorer()
    pairs = zip(hypotheses, references, strict=True)
    shown = tqdm(pairs, "ROUGE", total=len(hypotheses), unit="text", delay=SHOW_AFTER, disable=None)
    found = [scorer.score_multi(texts, text) for text, texts in shown]
    return {
        ours: np.array([tuple(scores[theirs]) for scores in found])
        for ours, theirs in NAMES.items()
    }


def rouge_l_coco(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> np.ndarray:
    """Return the ROUGE-L of each caption [S] as COCO's caption scorer and nlg-eval compute it.

    The longest common subsequence with each reference; the best precision and the best recall,
    perhaps of two references; their F-measure with beta 1.2. Nothing is stemmed.

    Args:
        hypotheses: [S] captions, each a list of words.
        references: [S] lists of references, each a list of words.
    """
    check_texts("ROUGE-L of COCO", hypotheses, references)
    scores = np.zeros(len(hypotheses))
    for i, (words, texts) in enumerate(zip(hypotheses, references, strict=True)):
        lengths = [_common_length(words, text) for text in texts]
        if not any(lengths):
            continue
        precision = max(lengths) / len(words)
        recall = max(
            length / len(text) for length, text in zip(lengths, texts, strict=True) if text
        )
        weight = COCO_BETA**2
        scores[i] = (1.0 + weight) * precision * recall / (recall + weight * precision)
    return scores


def check_texts(name: str, hypotheses: Sequence, references: Sequence) -> None:
    """Raise a ``UserError`` unless each of one or more texts has a reference."""
    if len(hypotheses) != len(references) or not len(hypotheses):
        raise UserError(
            f"{name} of {len(hypotheses)} texts with references of {len(references)}; give "
            "references for each text, and at least one text"
        )
    for i, texts in enumerate(references):
        if not len(texts):
            raise UserError(f"{name}: text {i} has no reference; give each at least one")


def stemmed_words(text: str) -> list[str]:
    """Return the words of a text as ROUGE-1.5.5 compares them with ``-m``."""
    stem = _stemmer()
    # Before lower case: that of a Kelvin sign is k, though it is no ASCII letter.
    words = [word.lower() for word in WORD.findall(text)]
    return [stem(word) if len(word) >= MIN_STEMMED else word for word in words]


class _Words:
    """What rouge-score calls a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return stemmed_words(text)


@lru_cache(maxsize=1)
def _scorer() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer  # takes seconds, and few need it

    return RougeScorer(list(NAMES.values()), tokenizer=_Words())


@lru_cache(maxsize=1)
def _stemmer() -> Callable[[str], str]:
    from nltk.stem.porter import PorterStemmer  # takes seconds, and few need it

    forms: dict[str, str] = {}
    package = importlib.metadata.distribution(FORMS_PACKAGE)
    for name in FORMS_FILES:
        lines = package.locate_file(name).read_text("utf-8").splitlines()
        forms |= dict(line.split("|") for line in lines if line)
    porter = PorterStemmer(PorterStemmer.ORIGINAL_ALGORITHM)

    @lru_cache(maxsize=1 << 16)
    def stem(word: str) -> str:
        return forms.get(word) or porter.stem(word)

    return stem


def _common_length(words: Sequence[str], others: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(others) + 1)
    for word in words:
        before = 0
        for j, other in enumerate(others, 1):
            above = row[j]
            row[j] = before + 1 if word == other else max(above, row[j - 1])
            before = above
    return row[-1]
