"""The words of a caption as COCO's caption scorer counts them, without Java.

That scorer runs Stanford's tokenizer for the Penn Treebank in lower case and drops punctuation.
The library nltk splits by the same conventions; docs/metrics.md says where the two differ.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Brackets stay: the scorer's list of what it drops has them in capitals, and the words are not.
DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "{": "-lcb-", "}": "-rcb-", "[": "-lsb-", "]": "-rsb-"}
MARKS = {"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"}
MARKS |= {"\u2013": "--", "\u2014": "--", "\u2015": "--", "\u2026": "..."}
MARKS_IN_ASCII = str.maketrans(MARKS)  # as Stanford's tokenizer writes them
# A period ends a sentence unless it ends one of these, a single letter or letters with periods.
TITLES = ("mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "gen", "lt", "sgt")
OTHERS = ("ave", "vs", "etc", "inc", "ltd", "co", "corp", "dept", "approx")
ABBREVIATIONS = frozenset((*TITLES, *OTHERS))
# Numbers, what follows an apostrophe, and what follows a number are no abbreviations.
SENTENCE_END = re.compile(
    r"((?<![\w.])[^\W\d_]{2,}|\w'[a-z]?|\d[^\W_]*)\.(?=[\"')\]}]*\s)", re.IGNORECASE
)
LAST_ABBREVIATION = re.compile(r"(?<![\w.])((?:[^\W\d_]\.)+|[^\W\d_]+\.)$")
# What Stanford's tokenizer keeps in one piece and nltk does not, in characters that it knows not.
KEPT_WHOLE = re.compile(r"(?<=[A-Z])&(?=[A-Z])|[?!]{2,}")
HIDDEN = {"&": "\ue000", "?": "\ue001", "!": "\ue002"}
SHOWN = str.maketrans({hidden: mark for mark, hidden in HIDDEN.items()})


def caption_words(text: str) -> list[str]:
    """Return the words of a caption in lower case, without punctuation."""
    text = " ".join(text.translate(MARKS_IN_ASCII).split())
    text = SENTENCE_END.sub(_split_period, text)
    last = LAST_ABBREVIATION.search(text)
    if last and (last[0].count(".") > 1 or _is_abbreviation(last[0])):
        text += " ."  # nltk takes the last period from its word
    text = KEPT_WHOLE.sub(_hide, text)
    words = [BRACKETS.get(word, word).lower() for word in _tokenizer().tokenize(text)]
    return [word.translate(SHOWN) for word in words if word not in DROPPED]


def _split_period(found: re.Match[str]) -> str:
    return found[0] if _is_abbreviation(found[0]) else f"{found[1]} ."


def _is_abbreviation(word: str) -> bool:
    return word.removesuffix(".").lower() in ABBREVIATIONS


def _hide(found: re.Match[str]) -> str:
    hidden = "".join(HIDDEN[mark] for mark in found[0])
    return hidden if found[0] == "&" else f" {hidden} "


@lru_cache(maxsize=1)
def _tokenizer():
    from nltk.tokenize import NLTKWordTokenizer  # takes seconds, and few need it

    return NLTKWordTokenizer()
