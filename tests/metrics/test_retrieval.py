"""Recall against hand counts and the original's recorded numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.metrics import retrieval
from unimo_paddle.metrics.retrieval import bootstrap_interval, ranks, recall_both_ways


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
def test_recall_is_the_recorded_one(shared_dir: Path, case: int) -> None:
    folder = shared_dir / "reference" / "official"
    recorded = json.loads((folder / "metrics.json").read_text())["recall_at_k"][case]
    with np.load(folder / recorded["file"]) as arrays:
        triples, text_to_image = arrays["score_matrix"], arrays["text2img"]
    images, image_index = np.unique(triples[:, 1].astype(int), return_inverse=True)
    texts, text_index = np.unique(triples[:, 2].astype(int), return_inverse=True)
    scores = np.empty((len(texts), len(images)))
    scores[text_index, image_index] = triples[:, 0]
    image_of = dict(text_to_image.tolist())
    text_groups = np.array([image_of[text] for text in texts])
    # Identities as candidates make the recorded scores the inner products.
    image_ranks = ranks(scores, np.eye(len(images)), text_groups, images)
    text_ranks = ranks(scores.T, np.eye(len(texts)), images, text_groups)
    for depth in (1, 5, 10):
        expected = recorded["result"]
        assert (image_ranks < depth).mean() == pytest.approx(expected[f"img_recall@{depth}"])
        assert (text_ranks < depth).mean() == pytest.approx(expected[f"cap_recall@{depth}"])
    assert image_ranks.mean() + 1 == pytest.approx(recorded["result"]["img_avg_rank"])
    assert text_ranks.mean() + 1 == pytest.approx(recorded["result"]["cap_avg_rank"])


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
