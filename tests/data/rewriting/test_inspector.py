"""The inspector: one page that stands alone, and a table to judge by."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.data.rewriting.cases import OTHERS, corpus_of, write_pairs
from unimo_paddle.data.rewriting.inspector import Inspector, as_page, as_table
from unimo_paddle.data.rewriting.lexicon import built_in_lexicon
from unimo_paddle.data.rewriting.rewriter import Rewriter, RewritingConfig
from unimo_paddle.data.rewriting.store import RewrittenCaptions, Row, join_blocks, save_block
from unimo_paddle.data.sources import PairRecord, read_pairs

IMAGES = [[text, f"<b>{number}</b> & a picture ."] for number, text in enumerate(OTHERS)] * 5


@pytest.fixture
def records(tmp_path: Path) -> list[PairRecord]:
    return read_pairs(write_pairs(tmp_path, *IMAGES)).records


@pytest.fixture
def rewritten(tmp_path: Path, records: list[PairRecord]) -> RewrittenCaptions:
    lexicon = built_in_lexicon()
    corpus = corpus_of(*OTHERS)
    rewriter = Rewriter(records, corpus, lexicon, RewritingConfig(), paraphrases={})
    return store(tmp_path, records, rewriter.rewrite(0, len(records)))


def store(folder: Path, records: list[PairRecord], rows) -> RewrittenCaptions:
    save_block(folder / "block", rows)
    join_blocks(folder / "file", [folder / "block"], records, {})
    return RewrittenCaptions(folder / "file", records)


def test_the_page_needs_nothing_else(records, rewritten) -> None:
    inspector = Inspector(rewritten, records, built_in_lexicon())
    images = list(inspector.shown(4, 2, seed=0))
    page = as_page(images, records, rewritten, title="a < b")
    assert len(images) == 4 and page.count("<section>") == 4
    assert "<title>a &lt; b</title>" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_the_page_marks_what_was_put_in(records, rewritten) -> None:
    inspector = Inspector(rewritten, records, built_in_lexicon())
    images = list(inspector.shown(len(records), 1, seed=0))
    page = as_page(images, records, rewritten, title="x")
    assert "<mark>" in page and "&lt;b&gt;" in page and "<b>" not in page


def test_the_table_has_as_many_rows_of_each_kind(records, rewritten) -> None:
    inspector = Inspector(rewritten, records, built_in_lexicon())
    table = as_table(inspector.balanced(10, seed=0), records, rewritten)
    header, *rows = [line.split("\t") for line in table.splitlines()]
    assert header == ["image", "caption", "rewrite", "kind", "true", "grammatical"]
    assert set(Counter(row[3] for row in rows).values()) == {2}
    assert len({row[0] for row in rows}) == 10


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Row("object", 0, 2, 13, "white dog"), "a caption says 'white'"),
        (Row("object", 0, 2, 13, "pony"), "'pony' may be the 'horse'"),
        (Row("sentence", 2), "only 'elephant' speaks against it"),
        (Row("sentence", 1), "nothing speaks against it"),
    ],
    ids=["same word", "synonym", "one thing", "nothing"],
)
def test_what_may_be_true_is_flagged(tmp_path: Path, row: Row, reason: str) -> None:
    captions = ["A brown horse and a white cat stand .", "A horse stands ."]
    pairs = write_pairs(tmp_path, captions, ["A horse and an elephant ."])
    records = read_pairs(pairs).records
    rewritten = store(tmp_path, records, [[row], [], []])
    inspector = Inspector(rewritten, records, built_in_lexicon())
    doubts = [item.doubts for seed in range(60) for item in inspector.balanced(5, seed=seed)]
    assert any(reason in doubt for found in doubts for doubt in found)
