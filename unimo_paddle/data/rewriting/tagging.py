"""Words of a caption with their parts of speech.

The tagger is HanTa (Wartena 2019, "A Probabilistic Morphology Model for German Lemmatization"),
whose English model lies in its package; its tags are CLAWS C5.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_WORD = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*|[^\w\s]")

# Tags of a noun and what is taken for a noun after it, and the verb that would agree.
_AGREEING = {("NN1", "NN2"): "VVZ", ("NN2", "NN1"): "VVB"}


@dataclass(frozen=True)
class Word:
    """A word or a mark of punctuation.

    Args:
        form: as it stands, in lower case.
        tag: part of speech in CLAWS C5, such as "NN1", "AJ0", "VVG", "PRP".
        start, end: characters of the caption.
    """

    form: str
    tag: str
    start: int
    end: int

    @property
    def is_noun(self) -> bool:
        """Common and proper nouns."""
        return self.tag.startswith(("NN", "NP"))

    @property
    def is_adjective(self) -> bool:
        """Adjectives in all degrees."""
        return self.tag.startswith("AJ")


def tag(caption: str) -> list[Word]:
    """The words of a caption, in order."""
    matches = list(_WORD.finditer(caption))
    # A capital at the beginning is no sign of a name.
    texts = [match[0].lower() if not match.start() else match[0] for match in matches]
    tags = [tagged[2] for tagged in _tagger().tag_sent(texts)] if texts else []
    return [
        Word(match[0].lower(), tag, match.start(), match.end())
        for match, tag in zip(matches, _with_verb(texts, tags), strict=True)
    ]


def _with_verb(texts: Sequence[str], tags: list[str]) -> list[str]:
    """The tags; where no word is a verb, the first noun after another that can be one.

    The tagger takes "sleeps" in "a dog sleeps" for a noun, and "sleep" in "two dogs sleep".
    """
    if any(tag.startswith("V") for tag in tags):
        return tags
    from lemminflect import getAllLemmas

    for at in range(1, len(tags)):
        verb = _AGREEING.get((tags[at - 1], tags[at]))
        if verb and "VERB" in getAllLemmas(texts[at]):
            return [*tags[:at], verb, *tags[at + 1 :]]
    return tags


@functools.cache
def _tagger() -> Any:
    from HanTa.HanoverTagger import HanoverTagger

    return HanoverTagger("morphmodel_en.pgz")
