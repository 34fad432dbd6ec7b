"""Recall against hand counts and the original's recorded numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.metrics.test_intervals import ends, plain_bootstrap
from unimo_paddle.errors import UserError
from unimo_paddle.metrics import retrieval
from unimo_paddle.metrics.original import NAMES
from unimo_paddle.metrics.retrieval import (
    bootstrap_interval,
    ranks,
    recall_both_ways,
    recall_of_scores,
)


@pytest.mark.parametrize(
    ("scores", "right", "expected"),
    [
        ([0.9, 0.5, 0.1], [0], 0),
        ([0.9, 0.5, 0.1], [1], 1),
        ([0.9, 0.5, 0.1], [2], 2),
        ([0.9, 0.5, 0.1], [1, 2], 1),  # the best of several counts
        ([0.9, 0.5, 0.7, 0.6], [2, 3], 1),  # others of its own group never rank before
        ([0.5, 0.5, 0.1], [0], 1),  # a tie counts against the query
        ([0.5, 0.5, 0.5], [2], 2),
        ([0.5, float("nan"), 0.1], [0], 1),
        ([float("nan"), 0.5, 0.1], [0], 2),
        ([0.9, 0.5, 0.1], [], 3),
    ],
)
def test_rank_is_the_one_counted_by_hand(
    scores: list[float], right: list[int], expected: int
) -> None:
    groups = np.array([1 if i in right else 2 for i in range(len(scores))])
    candidates = np.array(scores)[:, None]
    assert ranks(np.ones((1, 1)), candidates, np.array([1]), groups).tolist() == [expected]


def test_both_directions_are_the_ones_counted_by_hand() -> None:
    # Two images; three texts of the first, one of the second.
    image_features = np.array([[1.0, 0.0], [0.0, 1.0]])
    text_features = np.array([[1.0, 0.0], [0.2, 0.9], [0.6, 0.5], [0.3, 0.4]])
    values = recall_both_ways(
        image_features, text_features, np.array([7, 8]), np.array([7, 7, 7, 8])
    )
    assert values["image_retrieval_recall@1"] == 0.75  # the second text finds the wrong image
    assert values["image_retrieval_recall@5"] == 1.0
    assert values["text_retrieval_recall@1"] == 0.5  # the second image finds a text of the first
    assert values["image_retrieval_median_rank"] == 1.0
    assert values["text_retrieval_median_rank"] == 2.0  # ranks 1 and 3


@pytest.mark.parametrize("case", [0, 1])
def test_recall_of_scores_is_the_recorded_one(shared_dir: Path, case: int) -> None:
    folder = shared_dir / "reference" / "official"
    recorded = json.loads((folder / "metrics.json").read_text())["recall_at_k"][case]
    with np.load(folder / recorded["file"]) as arrays:
        scores, image_ids, text_ids = arrays["score_matrix"].T
        image_of_text = dict(arrays["text2img"].tolist())
    found = recall_of_scores(scores, image_ids.astype(int), text_ids.astype(int), image_of_text)
    expected = {NAMES[k]: v for k, v in recorded["result"].items() if k != "key_eval"}
    assert len(expected) == 13
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-14)


# Two images; three texts of the first, one of the second. Of the second image with text 1 and
# the first with text 3 nothing is known.
PAIRS = {
    "scores": np.array([0.9, 0.1, 0.2, 0.6, 0.5, 0.4]),
    "image_ids": np.array([7, 8, 7, 7, 8, 8]),
    "text_ids": np.array([0, 0, 1, 2, 2, 3]),
}
IMAGE_OF_TEXT = {0: 7, 1: 7, 2: 7, 3: 8}


def test_recall_of_scores_is_the_one_counted_by_hand() -> None:
    found = recall_of_scores(**PAIRS, image_of_text=IMAGE_OF_TEXT)
    assert found["image_retrieval_recall@1"] == 1.0
    assert found["image_retrieval_mean_rank"] == 1.0
    assert found["text_retrieval_recall@1"] == 0.5  # before its text, image 8 finds text 2
    assert found["text_retrieval_mean_rank"] == 1.5
    assert found["text_retrieval_median_rank"] == 1.5
    assert found["text_retrieval_mean_recall"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["mean_recall@1"] == 0.75


def test_right_pair_without_a_score_ranks_last() -> None:
    pairs = {name: column[1:] for name, column in PAIRS.items()}  # without text 0 on image 7
    found = recall_of_scores(**pairs, image_of_text=IMAGE_OF_TEXT)
    assert found["image_retrieval_mean_rank"] == 1.25  # its text finds the other image first
    assert found["text_retrieval_mean_rank"] == 1.5  # the image finds text 2, also its own


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("score", "text_rank"), [(float("nan"), 2.0), (float("-inf"), 1.5)])
def test_right_pair_whose_score_is_no_number_ranks_last(score: float, text_rank: float) -> None:
    pairs = {**PAIRS, "scores": np.r_[score, PAIRS["scores"][1:]]}
    found = recall_of_scores(**pairs, image_of_text=IMAGE_OF_TEXT)
    assert found["image_retrieval_mean_rank"] == 1.25
    assert found["text_retrieval_mean_rank"] == text_rank


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("num_images", "num_texts"), [(1, 1), (3, 7), (11, 40)])
def test_recall_of_scores_is_that_of_features_with_these_scores(
    seed: int, num_images: int, num_texts: int
) -> None:
    generator = np.random.default_rng(seed)
    # Few different scores: ties in both directions.
    scores = generator.integers(5, size=(num_texts, num_images)).astype(float)
    owners = np.r_[np.arange(num_images), generator.integers(num_images, size=num_texts)]
    owners = owners[:num_texts]
    expected = recall_both_ways(
        np.eye(num_images), scores, np.arange(num_images), owners, interval_seed=1
    )
    order = generator.permutation(scores.size)
    texts, images = np.unravel_index(order, scores.shape)
    found = recall_of_scores(
        scores.ravel()[order],
        images + 50,
        texts - 9,
        {text - 9: int(image) + 50 for text, image in enumerate(owners)},
        interval_seed=1,
    )
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_ids": np.array([0, 0, 1, 2, 2, 9])}, "text 9 is scored but not in image_of_text"),
        ({"image_ids": np.array([7, 5, 7, 7, 8, 8])}, "image 5 is scored but not in image_of_text"),
        ({"image_ids": np.array([7, 7, 7, 7, 8, 8])}, "image 7 with text 0 is scored 2 times"),
        ({"scores": np.array([0.5])}, "recall of 1 scores, 6 images"),
        ({"image_of_text": {}}, "give one of each a pair, and the image of each text"),
    ],
)
def test_scores_that_do_not_belong_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        recall_of_scores(**{**PAIRS, "image_of_text": IMAGE_OF_TEXT, **change})


@pytest.mark.parametrize("max_scores", [1, 7, 50, 10**6])
def test_blocks_do_not_change_the_ranks(monkeypatch, max_scores: int) -> None:
    generator = np.random.default_rng(0)
    queries, candidates = generator.normal(size=(23, 4)), generator.normal(size=(11, 4))
    groups = np.arange(11)
    query_groups = generator.integers(11, size=23)
    order = np.argsort(-(queries @ candidates.T), axis=1)
    expected = [list(row).index(group) for row, group in zip(order, query_groups, strict=True)]
    monkeypatch.setattr(retrieval, "MAX_SCORES", max_scores)
    assert ranks(queries, candidates, query_groups, groups).tolist() == expected


def test_interval_holds_the_mean_and_narrows_with_more_groups() -> None:
    hits = np.random.default_rng(0).random(2000) < 0.4
    groups = np.repeat(np.arange(400), 5)
    low, high = bootstrap_interval(hits, groups, seed=1)
    few_low, few_high = bootstrap_interval(hits[:100], groups[:100], seed=1)
    assert low < hits.mean() < high
    # Four standard errors of a mean of 2000 independent hits.
    assert high - low == pytest.approx(4 * np.sqrt(0.24 / 2000), rel=0.15)
    assert few_high - few_low > 3 * (high - low)


def test_interval_is_wider_where_captions_of_an_image_agree() -> None:
    hits = np.repeat(np.random.default_rng(0).random(100) < 0.5, 5)
    together = bootstrap_interval(hits, np.repeat(np.arange(100), 5), seed=0)
    apart = bootstrap_interval(hits, np.arange(500), seed=0)
    assert together[1] - together[0] > 1.8 * (apart[1] - apart[0])


def test_intervals_are_part_of_the_values_when_asked_for() -> None:
    features, groups = np.eye(12), np.arange(12)
    values = recall_both_ways(features, features, groups, groups, interval_seed=3)
    assert values["image_retrieval_recall@1_low"] == values["image_retrieval_recall@1_high"] == 1.0
    assert "text_retrieval_recall@10_high" in values
    assert "image_retrieval_recall@1_low" not in recall_both_ways(
        features, features, groups, groups
    )


def test_recall_both_ways_has_the_interval_of_a_plain_bootstrap() -> None:
    """An image is drawn with its texts: two of each here."""
    scores, owners = np.random.default_rng(0).normal(size=(9, 18)), np.arange(18) // 2
    scores[owners, np.arange(18)] += 1.5
    image_ids, text_ids = np.divmod(np.arange(scores.size), 18)
    pairs = (scores.ravel(), image_ids, text_ids, dict(enumerate(owners.tolist())))
    found = recall_of_scores(*pairs, interval_seed=0)
    of_texts = (scores >= scores[owners, np.arange(18)]).sum(axis=0) - 1
    best = np.where(owners == np.arange(9)[:, None], scores, -np.inf).max(axis=1, keepdims=True)
    of_images = ((scores >= best) & (owners != np.arange(9)[:, None])).sum(axis=1)

    def recall(images: list[int]) -> float:
        texts = [text for image in images for text in np.flatnonzero(owners == image)]
        return ((of_texts[texts] < 1).mean() + (of_images[images] < 1).mean()) / 2

    expected = plain_bootstrap(recall, range(9))
    assert ends(found, "mean_recall@1") == pytest.approx(expected, abs=1e-12)
    expected = plain_bootstrap(lambda texts: of_texts[texts].mean() + 1, owners.tolist())
    assert ends(found, "image_retrieval_mean_rank") == pytest.approx(expected, abs=1e-12)
    names = [name for name in found if not name.endswith(("_low", "_high"))]
    bare = [name for name in names if f"{name}_low" not in found]
    assert bare == ["image_retrieval_median_rank", "text_retrieval_median_rank"]
    assert list(recall_of_scores(*pairs)) == names
