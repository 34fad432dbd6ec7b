"""Words of a caption with their parts of speech.

The tagger is HanTa (Wartena 2019, "A Probabilistic Morphology Model for German Lemmatization"),
whose English model lies in its package; its tags are CLAWS C5.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

_WORD = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*|[^\w\s]")


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
    tagged = _tagger().tag_sent(texts) if texts else []
    return [
        Word(match[0].lower(), tagged_word[2], match.start(), match.end())
        for match, tagged_word in zip(matches, tagged, strict=True)
    ]


@functools.cache
def _tagger() -> Any:
    from HanTa.HanoverTagger import HanoverTagger

    return HanoverTagger("morphmodel_en.pgz")
