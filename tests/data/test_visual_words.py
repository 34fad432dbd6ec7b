"""Visual words by k-means."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.data.visual_words import VisualWords
from unimo_paddle.errors import UserError


@pytest.fixture(scope="module")
def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Patches [600, 12] around five distant centres, and the centre each belongs to."""
    rng = np.random.default_rng(0)
    centres = 4 * rng.standard_normal((5, 12))
    labels = rng.integers(5, size=600)
    patches = centres[labels] + 0.05 * rng.standard_normal((600, 12))
    return patches.astype(np.float32), labels


@pytest.fixture(scope="module")
def words(clusters) -> VisualWords:
    return VisualWords.fit(clusters[0], 5, seed=0)


def test_patches_of_one_kind_get_one_word_and_other_kinds_others(words, clusters):
    patches, labels = clusters
    pairs = set(zip(words.assign(patches).tolist(), labels.tolist()))
    assert len(pairs) == 5
    assert words.assign(patches).dtype == np.int64


def test_centres_are_the_mean_patches(words, clusters):
    patches, labels = clusters
    word = words.assign(patches[labels == 3])[0]
    np.testing.assert_allclose(words.centres[word], patches[labels == 3].mean(0), atol=1e-5)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_every_word_is_used_and_a_patch_has_its_word_alone_or_among_others(whitening):
    rng = np.random.default_rng(1)
    patches = rng.standard_normal((500, 8)).astype(np.float32)
    words = VisualWords.fit(patches, 7, seed=0, num_components=8, whitening=whitening)
    assigned = words.assign(patches)
    assert words.assign(patches[17:18])[0] == assigned[17]
    assert len(set(assigned.tolist())) == 7


def test_without_whitening_words_are_nearest_means():
    rng = np.random.default_rng(1)
    patches = (3 + rng.standard_normal((4000, 3))).astype(np.float32)
    words = VisualWords.fit(patches, 4, seed=0, whitening=0.0)
    distances = ((patches[:, None] - words.centres[None]) ** 2).sum(-1)
    assert np.mean(distances.argmin(1) == words.assign(patches)) > 0.95


def test_the_same_seed_gives_the_same_words(clusters):
    first, again, other = (VisualWords.fit(clusters[0], 20, seed=seed) for seed in (1, 1, 2))
    assert (first.projection == again.projection).all()
    assert first.projection.tolist() != other.projection.tolist()


def test_constant_patches_do_no_harm():
    words = VisualWords.fit(np.ones((50, 4)), 2, seed=0)
    assert np.isfinite(words.projection).all()
    assert np.isfinite(words.centres).all()


def test_a_saved_vocabulary_assigns_equal_words(words, clusters, tmp_path):
    words.save(tmp_path / "words.npz")
    loaded = VisualWords.load(tmp_path / "words.npz")
    assert loaded.num_words == 5
    assert (loaded.assign(clusters[0]) == words.assign(clusters[0])).all()


@pytest.mark.parametrize("num_words", [1, 601])
def test_a_wrong_number_of_words_is_refused(clusters, num_words):
    with pytest.raises(UserError, match=f"num_words {num_words} must be"):
        VisualWords.fit(clusters[0], num_words, seed=0)


def test_patches_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="not a finite number"):
        VisualWords.fit(np.full((10, 4), np.nan), 2, seed=0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.npz cannot be read: No such file"):
        VisualWords.load(tmp_path / "none.npz")


def pickled(path):
    np.savez(path, projection=np.array([{}], dtype=object))


def one_array(path):
    with path.open("wb") as file:
        np.save(file, np.ones((4, 2)))


def flat(path):
    np.savez(path, projection=np.ones(4), bias=np.ones(2), centres=np.ones((2, 4)))


def texts(path):
    np.savez(path, projection=[["a", "b"]] * 4, bias=["a", "b"], centres=[["a"] * 4] * 2)


def truncated(path):
    np.savez(path, projection=np.ones((4, 2)))
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    "damage",
    [
        pickled,
        one_array,
        flat,
        texts,
        truncated,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"hello"),
        lambda path: np.savez(path, projection=np.ones((4, 2))),
        lambda path: np.savez(path, projection=np.ones((4, 2)), bias=[1], centres=np.ones((2, 4))),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path, damage):
    damage(tmp_path / "words.npz")
    with pytest.raises(UserError, match="make them again"):
        VisualWords.load(tmp_path / "words.npz")
