"""To look at rewritten captions: a page with pictures, and a table to judge a sample by.

A false caption that may be true after all is flagged with the reason: a caption of the image uses
the word, or one that may mean the same or more, or a single word speaks against a whole sentence.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.rewriting.graph import ideas_in, parse_caption
from unimo_paddle.data.rewriting.knowledge import Knowledge
from unimo_paddle.data.rewriting.lexicon import Idea, Lexicon, Table
from unimo_paddle.data.rewriting.rewriter import understand
from unimo_paddle.data.rewriting.store import (
    NEGATIVE_KINDS,
    SENTENCE,
    Rewrite,
    RewrittenCaptions,
)
from unimo_paddle.data.rewriting.tagging import tag
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.errors import BadSample

_PICTURE_SIDE = 280  # pixels
_LEXICAL = ("NN", "AJ", "VV", "CRD")  # tags of words that say something of their own


@dataclass(frozen=True)
class Example:
    """One rewrite of caption number ``caption`` of record number ``record``."""

    record: int
    caption: int
    rewrite: Rewrite
    doubts: tuple[str, ...]


class Inspector:
    """Draws examples of a file of rewritten captions.

    Args:
        records: of the pair file that the rewrites were made from.
    """

    def __init__(
        self, rewritten: RewrittenCaptions, records: Sequence[PairRecord], lexicon: Lexicon
    ) -> None:
        self._rewritten = rewritten
        self._records = records
        self._lexicon = lexicon

    def shown(self, num_images: int, per_kind: int, seed: int) -> Iterator[list[Example]]:
        """For each image drawn, some rewrites of every kind of one of its captions."""
        rng = np.random.default_rng(seed)
        count = min(num_images, len(self._records))
        for record in np.sort(rng.choice(len(self._records), count, replace=False)):
            caption = int(rng.integers(self._rewritten.num_captions(int(record))))
            examples = []
            by_kind: dict[str, list[Rewrite]] = {}
            for rewrite in self._rewritten.rewrites(int(record), caption):
                by_kind.setdefault(rewrite.kind, []).append(rewrite)
            for rewrites in by_kind.values():
                chosen = np.sort(rng.permutation(len(rewrites))[:per_kind])
                examples += [
                    self._example(int(record), caption, rewrites[number]) for number in chosen
                ]
            yield examples

    def balanced(self, count: int, seed: int) -> list[Example]:
        """False captions of random images, as many of each kind; an image gives one at most."""
        rng = np.random.default_rng(seed)
        wanted = {
            kind: count // len(NEGATIVE_KINDS) + (number < count % len(NEGATIVE_KINDS))
            for number, kind in enumerate(NEGATIVE_KINDS)
        }
        found = []
        for record in rng.permutation(len(self._records)):
            left = [kind for kind, number in wanted.items() if number]
            if not left:
                break
            kind = left[rng.integers(len(left))]
            caption = int(rng.integers(self._rewritten.num_captions(int(record))))
            rewrites = [
                r for r in self._rewritten.negatives(int(record), caption) if r.kind == kind
            ]
            if rewrites:
                wanted[kind] -= 1
                rewrite = rewrites[rng.integers(len(rewrites))]
                found.append(self._example(int(record), caption, rewrite))
        return sorted(found, key=lambda item: NEGATIVE_KINDS.index(item.rewrite.kind))

    def _example(self, record: int, caption: int, rewrite: Rewrite) -> Example:
        if rewrite.kind not in NEGATIVE_KINDS:
            return Example(record, caption, rewrite, ())
        own = self._records[record]
        others = [r for r in self._records if r.group == own.group and r is not own]
        _, knowledge = understand(own, others, self._lexicon)
        find = _doubts_of_sentence if rewrite.kind == SENTENCE else _doubts_of_change
        return Example(record, caption, rewrite, tuple(find(rewrite, knowledge, self._lexicon)))


def _doubts_of_change(rewrite: Rewrite, knowledge: Knowledge, lexicon: Lexicon) -> Iterator[str]:
    """What the captions say of the words that were put in."""
    words = tag(rewrite.text[rewrite.start : rewrite.end])
    put_in = {word.form for word in words}
    for word in words:
        if word.tag.startswith(_LEXICAL) and word.form in knowledge.words:
            yield f"a caption says '{word.form}'"
    for known, table in _tables(knowledge, lexicon):
        for idea, said in sorted(ideas_in(words, table).items(), key=lambda item: item[0].name):
            same = sorted(_as_said(other, knowledge) for other in idea.alike & known)
            if same and not any(name in knowledge.words for name in idea.names if name in put_in):
                yield f"'{said}' may be the '{same[0]}' of the captions"


def _as_said(idea: Idea, knowledge: Knowledge) -> str:
    return next((name for name in idea.names if name in knowledge.words), idea.name)


def _tables(knowledge: Knowledge, lexicon: Lexicon) -> Iterator[tuple[set[Idea], Table]]:
    yield knowledge.things, lexicon.objects
    yield knowledge.qualities, lexicon.qualities
    yield knowledge.actions, lexicon.actions


def _doubts_of_sentence(rewrite: Rewrite, knowledge: Knowledge, lexicon: Lexicon) -> Iterator[str]:
    """Whether more than one thing of a sentence is missing in the image."""
    graph = parse_caption(rewrite.text, tag(rewrite.text), lexicon)
    missing = sorted(
        {
            mention.idea.name
            for mention in graph.mentions
            if knowledge.excludes_thing(mention.idea, [a.ideas[0] for a in mention.attributes])
        }
    )
    if len(missing) < 2:
        yield f"only '{missing[0]}' speaks against it" if missing else "nothing speaks against it"


def as_page(
    images: Sequence[Sequence[Example]],
    records: Sequence[PairRecord],
    rewritten: RewrittenCaptions,
    *,
    title: str,
) -> str:
    """One HTML page that needs no other file: pictures, captions, and what was made of them."""
    cards = "\n".join(_card(examples, records, rewritten) for examples in images if examples)
    flags = sum(bool(item.doubts) for item in chain.from_iterable(images))
    total = sum(item.rewrite.kind in NEGATIVE_KINDS for item in chain.from_iterable(images))
    return _PAGE.format(title=html.escape(title), cards=cards, flags=flags, total=total)


def as_table(
    examples: Sequence[Example],
    records: Sequence[PairRecord],
    rewritten: RewrittenCaptions,
) -> str:
    """Tab-separated rows to judge: the columns ``true`` and ``grammatical`` are left empty."""
    rows = ["image\tcaption\trewrite\tkind\ttrue\tgrammatical"]
    for item in examples:
        caption = rewritten.caption(item.record, item.caption)
        name = records[item.record].image.name
        cells = (name, caption, item.rewrite.text, item.rewrite.kind, "", "")
        rows.append("\t".join(" ".join(cell.split()) for cell in cells))
    return "\n".join(rows) + "\n"


def _card(
    examples: Sequence[Example],
    records: Sequence[PairRecord],
    rewritten: RewrittenCaptions,
) -> str:
    record = records[examples[0].record]
    caption = rewritten.caption(examples[0].record, examples[0].caption)
    others = "".join(f"<li>{html.escape(t)}</li>" for t in record.captions if t != caption)
    rows = "\n".join(map(_row, examples))
    return (
        f"<section><figure>{_picture(record.image)}<figcaption>{html.escape(record.image.name)}"
        f"</figcaption></figure><div><h2>{html.escape(caption)}</h2><ul>{others}</ul>"
        f"<table>{rows}</table></div></section>"
    )


def _row(item: Example) -> str:
    rewrite = item.rewrite
    before, put_in, after = (
        html.escape(part)
        for part in (
            rewrite.text[: rewrite.start],
            rewrite.text[rewrite.start : rewrite.end],
            rewrite.text[rewrite.end :],
        )
    )
    is_whole = not before and not after
    text = put_in if is_whole else f"{before}<mark>{put_in}</mark>{after}"
    side = "negative" if rewrite.kind in NEGATIVE_KINDS else "positive"
    doubts = "".join(f'<div class="doubt">&#9888; {html.escape(d)}</div>' for d in item.doubts)
    return f'<tr class="{side}"><th>{rewrite.kind}</th><td>{text}{doubts}</td></tr>'


def _picture(path: Path) -> str:
    try:
        pixels = read_image(path)
    except BadSample as bad:
        return f"<p>{html.escape(str(bad))}</p>"
    scale = min(1.0, _PICTURE_SIDE / max(pixels.shape[:2]))
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    ok, encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert ok, path
    data = base64.b64encode(encoded.tobytes()).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{data}">'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; color: #222;
  padding: 0 1rem }}
section {{ display: flex; gap: 1.5rem; border-top: 1px solid #ccc; padding: 1.2rem 0 }}
figure {{ margin: 0; flex: 0 0 280px }}
figcaption {{ color: #777; font-size: .8rem; overflow-wrap: anywhere }}
img {{ max-width: 280px; border-radius: 4px }}
h2 {{ font-size: 1.05rem; margin: 0 0 .3rem }}
ul {{ color: #666; margin: 0 0 .8rem; padding-left: 1.2rem }}
table {{ border-collapse: collapse }}
th {{ text-align: left; font-weight: 600; padding: .15rem 1rem .15rem 0; vertical-align: top }}
td {{ padding: .15rem 0 }}
.negative th {{ color: #a33 }}
.positive th {{ color: #283 }}
mark {{ background: #ffe08a; padding: 0 .15em; border-radius: 3px }}
.doubt {{ color: #a60; font-size: .85rem }}
@media (max-width: 50rem) {{ section {{ flex-direction: column }} }}
</style></head><body>
<h1>{title}</h1>
<p>Each picture with one of its captions, the others below it, and what was made of it: red kinds
should be false of the picture, green ones true. Marked words were put in. A flag (&#9888;) says why
a caption may be true after all: {flags} of {total} false captions here have one.</p>
{cards}
</body></html>
"""
