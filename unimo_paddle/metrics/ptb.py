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
QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"})
# A period within a caption ends a sentence unless it ends one of these or a single letter.
TITLES = ("mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "gen", "lt", "sgt")
OTHERS = ("ave", "vs", "etc", "inc", "ltd", "co", "corp", "dept", "approx")
ABBREVIATIONS = frozenset((*TITLES, *OTHERS))
SENTENCE_END = re.compile(r"(\b[^\W\d_]{2,})\.(?=\s)", re.IGNORECASE)


def caption_words(text: str) -> list[str]:
    """Return the words of a caption in lower case, without punctuation."""
    text = SENTENCE_END.sub(_split_period, " ".join(text.translate(QUOTES).split()))
    words = [BRACKETS.get(word, word).lower() for word in _tokenizer().tokenize(text)]
    return [word for word in words if word not in DROPPED]


def _split_period(found: re.Match[str]) -> str:
    word = found[1]
    return found[0] if word.lower() in ABBREVIATIONS else f"{word} ."


@lru_cache(maxsize=1)
def _tokenizer():
    from nltk.tokenize import NLTKWordTokenizer  # takes seconds, and few need it

    return NLTKWordTokenizer()
