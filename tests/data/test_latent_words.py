"""Vectors of words from what is said of the same images."""

from __future__ import annotations

import numpy as np

from unimo_paddle.data.latent_words import COMMON, latent_words

# "0" is said of every image; 1 and 2 of the same images, 3 and 4 of others; 5 of none.
DOCUMENTS = [[0, 1, 2], [0, 2, 1, 1], [0, 1, 2, 2], [0, 3, 4], [0, 4, 3], [0, 3]] * 3


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def test_words_of_the_same_images_are_alike_and_others_not() -> None:
    words = latent_words(DOCUMENTS, 6, 3)
    assert words.shape == (6, 3) and words.dtype == np.float32
    own = words[:, :-1]
    assert cosine(own[1], own[2]) > 0.95
    assert abs(cosine(own[1], own[3])) < 0.3


def test_a_word_of_every_image_says_nothing() -> None:
    words = latent_words(DOCUMENTS, 6, 8)
    np.testing.assert_allclose(words[0, :-1], 0, atol=1e-5)
    np.testing.assert_array_equal(words[:, -1], np.float32(COMMON))


def test_the_strongest_word_is_as_large_as_a_layer_norm_makes_it() -> None:
    words = latent_words(DOCUMENTS, 6, 8)
    sizes = np.sqrt((words[:, :-1] ** 2).sum(axis=1))
    np.testing.assert_allclose(sizes.max(), np.sqrt(8), rtol=1e-5)


def test_a_word_never_read_is_small_and_none_is_missing() -> None:
    words = latent_words(DOCUMENTS, 6, 8)
    assert 0 < np.abs(words[5, :-1]).max() < 0.1
    assert np.isfinite(latent_words([[0, 1], [1, 2], [3]], 4, 64)).all()
