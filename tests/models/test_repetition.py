"""What repeats, against lists of tokens and words."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.models.repetition import repeated_ngrams, repeated_words

VOCABULARY = 6  # few, so that much repeats
OPENS = np.array([True, True, False, True, False, False])


@pytest.fixture
def history() -> np.ndarray:
    """Texts of 3 samples with 4 beams; some begin late."""
    rng = np.random.default_rng(0)
    texts = rng.integers(0, VOCABULARY, (3, 4, 25))
    for sample, start in enumerate((0, 1, 7)):
        texts[sample, :, :start] = -1
    return texts


def said(tokens: np.ndarray) -> list[int]:
    return [int(token) for token in tokens if token >= 0]


def ends_ngram_again(tokens: list[int], token: int, size: int) -> bool:
    longer = [*tokens, token]
    ngrams = [tuple(longer[i : i + size]) for i in range(len(longer) - size + 1)]
    return bool(ngrams) and ngrams[-1] in ngrams[:-1]


def ends_words_again(tokens: list[int], token: int) -> bool:
    words: list[tuple[int, ...]] = []
    for item in [*tokens, token]:
        if not words or OPENS[item]:
            words.append((item,))
        else:
            words[-1] += (item,)
    trigrams = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    return bool(trigrams) and trigrams[-1] in trigrams[:-1]


def found(blocked: paddle.Tensor, sample: int, beam: int) -> set[int]:
    return {int(token) for token in blocked.numpy()[sample, beam] if token >= 0}


@pytest.mark.parametrize("length", [1, 2, 3, 9, 25])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_ngrams_that_would_come_again(history: np.ndarray, size: int, length: int) -> None:
    part = history[..., -length:]
    blocked = repeated_ngrams(paddle.to_tensor(part), size)
    for sample, beam in np.ndindex(part.shape[:2]):
        tokens = said(part[sample, beam])
        expected = {v for v in range(VOCABULARY) if tokens and ends_ngram_again(tokens, v, size)}
        assert found(blocked, sample, beam) == expected


@pytest.mark.parametrize("length", [1, 2, 3, 9, 25])
def test_words_that_would_come_again(history: np.ndarray, length: int) -> None:
    part = history[..., -length:]
    blocked = repeated_words(paddle.to_tensor(part), paddle.to_tensor(OPENS))
    for sample, beam in np.ndindex(part.shape[:2]):
        tokens = said(part[sample, beam])
        expected = {v for v in range(VOCABULARY) if tokens and ends_words_again(tokens, v)}
        assert found(blocked, sample, beam) == expected
