"""Paraphrases of captions that the user has made, by back-translation or by hand.

A file of JSON lines: ``{"caption": text, "paraphrases": [text, ...]}``. The caption is written as
in the pair file, white space around it aside; the paraphrases hold for every image with it.
"""

from __future__ import annotations

from pathlib import Path

from unimo_paddle.data.records import Fault, gather, parse_object, read_lines, text_of, texts_of

MAX_CHARACTERS = 10_000  # of one paraphrase


def read_paraphrases(path: Path) -> dict[str, tuple[str, ...]]:
    """The paraphrases of each caption; lines on the same caption are joined."""
    found: dict[str, tuple[str, ...]] = {}
    for caption, texts in gather(path, read_lines(path), _parse, bad_record_limit=0.01):
        found[caption] = tuple(dict.fromkeys((*found.get(caption, ()), *texts)))
    return found


def _parse(line: str) -> tuple[str, tuple[str, ...]]:
    record = parse_object(line)
    texts = texts_of(record, "paraphrases", required=True)
    for number, text in enumerate(texts):
        if len(text) > MAX_CHARACTERS:
            raise Fault(f"'paraphrases[{number}]' has {len(text)} characters, not {MAX_CHARACTERS}")
    return text_of(record, "caption"), texts
