"""Recall of retrieval in both directions, in blocks, never with the full matrix of scores."""

from __future__ import annotations

import numpy as np

RECALL_DEPTHS = (1, 5, 10)
MAX_SCORES = 1 << 24  # scores held at once: 64 MiB of float32
NUM_RESAMPLES = 1000
CONFIDENCE = 0.95


def ranks(
    queries: np.ndarray, candidates: np.ndarray, query_groups: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Return the rank (0 is best) of each query's best candidate of its own group.

    Ties count against the query: a candidate of another group with an equal score ranks before.
    So does one whose score is not a number, and all do where a query has no candidate.

    Args:
        queries, candidates: [N, D] and [M, D]; the score is their inner product.
        query_groups, groups: [N] and [M] int64; equal groups belong together.
    """
    assert len(queries) == len(query_groups) and len(candidates) == len(groups)
    block_size = max(1, MAX_SCORES // max(1, len(candidates)))
    found = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), block_size):
        block = slice(start, start + block_size)
        scores = queries[block] @ candidates.T
        is_right = query_groups[block, None] == groups[None, :]
        best = np.where(is_right, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
        # Not `scores >= best`, which is false, hence in favour of the query, for what is no number.
        found[block] = (~(scores < best) & ~is_right).sum(axis=1)
    return found


def recall_both_ways(
    image_features: np.ndarray,
    text_features: np.ndarray,
    image_groups: np.ndarray,
    text_groups: np.ndarray,
    *,
    interval_seed: int | None = None,
) -> dict[str, float]:
    """Return recall at 1, 5 and 10 and the median rank (from 1) of both directions.

    ``image_retrieval`` looks for the image of a text, ``text_retrieval`` for any text of an image.
    With ``interval_seed``, each recall has ``_low`` and ``_high``, its 95 % bootstrap interval.
    """
    directions = {
        "image_retrieval": (text_features, image_features, text_groups, image_groups),
        "text_retrieval": (image_features, text_features, image_groups, text_groups),
    }
    values: dict[str, float] = {}
    for direction, (queries, candidates, query_groups, groups) in directions.items():
        found = ranks(queries, candidates, query_groups, groups)
        for depth in RECALL_DEPTHS:
            name = f"{direction}_recall@{depth}"
            values[name] = float((found < depth).mean())
            if interval_seed is not None:
                low, high = bootstrap_interval(found < depth, query_groups, seed=interval_seed)
                values |= {f"{name}_low": low, f"{name}_high": high}
        values[f"{direction}_median_rank"] = float(np.median(found) + 1)
    return values


def bootstrap_interval(is_hit: np.ndarray, groups: np.ndarray, *, seed: int) -> tuple[float, float]:
    """Return the interval of a mean of [N] hits when other groups had been drawn.

    Whole groups are drawn again with replacement: captions of one image succeed and fail together.
    """
    _, index = np.unique(groups, return_inverse=True)
    sizes = np.bincount(index)
    hits = np.bincount(index, weights=is_hit)
    generator = np.random.default_rng(seed)
    means = np.empty(NUM_RESAMPLES)
    for i in range(NUM_RESAMPLES):
        drawn = generator.integers(len(sizes), size=len(sizes))
        means[i] = hits[drawn].sum() / sizes[drawn].sum()
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)
