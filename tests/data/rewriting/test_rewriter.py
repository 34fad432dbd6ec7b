"""Rewriting of a corpus: kinds take turns, positives are true, blocks and seeds decide nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.data.rewriting.cases import OTHERS, corpus_of, make_records
from unimo_paddle.data.rewriting.lexicon import built_in_lexicon
from unimo_paddle.data.rewriting.rewriter import Rewriter, RewritingConfig
from unimo_paddle.data.rewriting.store import NEGATIVE_KINDS, Row
from unimo_paddle.errors import UserError

IMAGES = [[text, "A picture ."] for text in OTHERS] + [
    ["A brown dog sits on a bed in a room .", "The dog rests ."],
    ["A boy in a red shirt rides a horse .", "The boy is on a horse ."],
]
DOG = 6


def rewriter(config: RewritingConfig | None = None, paraphrases=None, records=None) -> Rewriter:
    records = records or make_records(*IMAGES)
    corpus = corpus_of(*(text for record in records for text in record.captions))
    config = config or RewritingConfig()
    return Rewriter(records, corpus, built_in_lexicon(), config, paraphrases=paraphrases or {})


def rows_of(record: int, caption: int = 0, **changes) -> list[Row]:
    return list(rewriter(**changes).rewrite(record, record + 1))[caption]


def kinds(rows: list[Row]) -> list[str]:
    return [row.kind for row in rows if row.kind in NEGATIVE_KINDS]


def test_kinds_take_turns() -> None:
    assert kinds(rows_of(DOG))[:5] == list(NEGATIVE_KINDS)


def test_no_more_negatives_than_asked_for() -> None:
    config = RewritingConfig(num_negatives=7)
    assert len(kinds(rows_of(DOG, config=config))) == 7


def test_other_captions_of_the_image_are_positives() -> None:
    rows = [row for row in rows_of(DOG) if row.kind not in NEGATIVE_KINDS]
    assert rows == [Row("caption", 2 * DOG + 1)]


def test_paraphrases_come_instead_of_other_captions() -> None:
    given = {IMAGES[DOG][0]: (IMAGES[DOG][0], "A dog is on a bed .", "A bed has a dog on it .")}
    rows = [row for row in rows_of(DOG, paraphrases=given) if row.kind not in NEGATIVE_KINDS]
    assert [row.text for row in rows] == ["A dog is on a bed .", "A bed has a dog on it ."]


def test_records_of_one_image_know_of_each_other() -> None:
    records = make_records(*IMAGES)
    horse = replace(records[DOG + 1], group=DOG)
    joined = [*records[: DOG + 1], horse]
    base = 2 * DOG
    for row in rows_of(DOG, records=joined):
        assert not (row.kind == "object" and "horse" in row.text)
        assert not (row.kind == "sentence" and row.base >= base)
    assert Row("caption", base + 2) in rows_of(DOG, records=joined)


def test_a_record_is_rewritten_alike_in_every_block() -> None:
    whole = list(rewriter().rewrite(0, len(IMAGES)))
    parts = [*rewriter().rewrite(0, 3), *rewriter().rewrite(3, 4), *rewriter().rewrite(4, 8)]
    assert whole == parts


def test_another_seed_gives_another_order() -> None:
    other = RewritingConfig(seed=1)
    assert rows_of(DOG) != rows_of(DOG, config=other)


@pytest.mark.parametrize("name", ["num_negatives", "num_positives", "seed"])
def test_wrong_numbers_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--{name} is -1"):
        RewritingConfig(**{name: -1})


def test_rewrites_of_drawn_scenes_are_false(scenes_dir) -> None:
    from unimo_paddle.data.scenes.likelihood import caption_log_probability, scene_of
    from unimo_paddle.data.sources import read_pairs

    records = read_pairs(scenes_dir / "train.jsonl").records
    captions = [text for record in records for text in record.captions]
    made = rewriter(RewritingConfig(num_negatives=10), records=records).rewrite(0, 6)
    numbers, said = np.repeat(np.arange(len(records)), 5), 0
    for number, rows in enumerate(made):
        scene = scene_of(records[numbers[number]].graph)
        for row in rows:
            text = captions[row.base]
            text = (
                text if row.kind == "sentence" else text[: row.start] + row.text + text[row.end :]
            )
            if row.kind in NEGATIVE_KINDS:
                assert caption_log_probability(scene, text) == -np.inf, text
                said += 1
    assert said == 300
