"""CIDEr and CIDEr-D against a published value and what can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.metrics.test_generation import HYPOTHESES, REFERENCES
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.cider import cider, cider_d


def test_what_is_published_as_cider_of_two_sentences_is_cider_d() -> None:
    references = [[text.split() for text in texts] for texts in REFERENCES]
    hypotheses = [text.split() for text in HYPOTHESES]
    assert cider_d(hypotheses, references).mean() == pytest.approx(1.242192, abs=5e-7)
    assert cider(hypotheses, references).mean() != pytest.approx(1.242192, abs=1e-2)


def test_the_reference_itself_scores_ten() -> None:
    captions = [["a", "dog", "runs", "fast"], ["two", "men", "play", "chess"]]
    np.testing.assert_allclose(cider_d(captions, [[text] for text in captions]), 10.0)


def test_words_that_all_images_share_are_worth_nothing() -> None:
    scores = cider_d([["the"], ["the", "cat"]], [[["the"]], [["the", "cat"]]])
    assert scores[0] == 0.0 and scores[1] > 0.0


def test_a_word_counts_no_more_often_than_the_reference_has_it() -> None:
    references = [[["cat"]], [["dog"]]]
    once, twice = (cider_d([words, ["dog"]], references)[0] for words in (["cat"], ["cat"] * 2))
    # Of single words a quarter of the scale; the second "cat" lengthens the vector and the text.
    assert once == pytest.approx(10 / 4)
    assert twice == pytest.approx(10 / 4 * (1 / 2) * math.exp(-1 / 72))


def test_plain_cider_takes_repeated_words_and_any_length() -> None:
    references = [[["cat", "runs"]], [["dog"]]]
    found = [cider([words, ["dog"]], references)[0] for words in (["cat"], ["cat"] * 2)]
    # The angle to (cat, runs) is 45 degrees however often "cat" is said.
    assert found == pytest.approx([10 / 4 * math.sqrt(1 / 2)] * 2)
    np.testing.assert_allclose(cider([["dog"], ["cat"]], [[["dog"]], [["cat"]]]), 10 / 4)


def test_an_empty_caption_scores_nothing() -> None:
    assert cider_d([[], ["dog"]], [[["cat"]], [["dog"]]])[0] == 0.0


@pytest.mark.parametrize("measure", [cider, cider_d])
@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([["a"]], [], "1 captions with references of 0"),
        ([], [], "0 captions"),
        ([["a"]], [[]], "no reference"),
    ],
)
def test_texts_without_references_are_refused(measure, hypotheses, references, message) -> None:
    with pytest.raises(UserError, match=message):
        measure(hypotheses, references)
