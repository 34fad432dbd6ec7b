"""Recall of retrieval in both directions, in blocks, never with the full matrix of scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.intervals import bootstrap_interval, interval

RECALL_DEPTHS = (1, 5, 10)
MAX_SCORES = 1 << 24  # scores held at once: 64 MiB of float32


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


def nearest(queries: np.ndarray, candidates: np.ndarray, count: int) -> np.ndarray:
    """Return the candidates of the highest inner product with each query, best first.

    Args:
        queries, candidates: [N, D] and [M, D].
        count: how many of each query; all where there are no more.

    Returns:
        [N, min(count, M)] int64.
    """
    count = min(count, len(candidates))
    block_size = max(1, MAX_SCORES // max(1, len(candidates)))
    found = np.empty((len(queries), count), np.int64)
    for start in range(0, len(queries), block_size):
        block = slice(start, start + block_size)
        distances = -(queries[block] @ candidates.T)
        chosen = np.argpartition(distances, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distances, chosen, axis=1), axis=1, kind="stable")
        found[block] = np.take_along_axis(chosen, order, axis=1)
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
        values |= _recalls(direction, found, query_groups, interval_seed)
        values[f"{direction}_median_rank"] = float(np.median(found) + 1)
    return values


def recall_of_scores(
    scores: np.ndarray,
    image_ids: np.ndarray,
    text_ids: np.ndarray,
    image_of_text: Mapping[int, int],
    *,
    interval_seed: int | None = None,
) -> dict[str, float]:
    """Return the recall of both directions where a score of each pair is known, not features.

    Of both directions: recall at 1, 5 and 10, their mean (``_mean_recall``), and the mean and
    median rank from 1; of both together ``mean_recall@K``. What is not scored ranks last, so the
    scores may be those of a first stage's best candidates; ties rank as ``ranks`` says.

    Args:
        scores, image_ids, text_ids: [P]; one entry a pair, in any order, each pair once.
        image_of_text: the image of each text. Every text and image of it is a query.
        interval_seed: if given, all but the medians have ``_low`` and ``_high``, as above: a draw
            of a median would sort all ranks again.
    """
    pairs = _Pairs(scores, image_ids, text_ids, image_of_text)
    of_texts, of_images = pairs.ranks_of_texts(), pairs.ranks_of_images()
    values: dict[str, float] = {}
    for direction, (found, groups) in {
        "image_retrieval": (of_texts, pairs.owners),
        "text_retrieval": (of_images, np.arange(len(pairs.images))),
    }.items():
        values |= _recalls(direction, found, groups, interval_seed)
        hits = np.mean([found < depth for depth in RECALL_DEPTHS], axis=0)
        for name, of_queries in {"mean_recall": hits, "mean_rank": found + 1}.items():
            values |= _mean(f"{direction}_{name}", of_queries, groups, interval_seed)
        values[f"{direction}_median_rank"] = float(np.median(found) + 1)
    num_texts = np.bincount(pairs.owners)
    for depth in RECALL_DEPTHS:
        name = f"mean_recall@{depth}"
        both = [values[f"{side}_retrieval_recall@{depth}"] for side in ("image", "text")]
        values[name] = float(np.mean(both))
        if interval_seed is not None:
            # An image is drawn with all its texts.
            hits = np.bincount(pairs.owners, weights=of_texts < depth)
            columns = hits, num_texts, of_images < depth
            low, high = interval(_mean_of_both, *columns, seed=interval_seed)
            values |= {f"{name}_low": low, f"{name}_high": high}
    return values


def _mean_of_both(hits: np.ndarray, num_texts: np.ndarray, is_hit: np.ndarray) -> float:
    """The mean of recall by texts and by images, from what is found of each image [N]."""
    return 0.5 * float(hits.sum() / num_texts.sum() + is_hit.mean())


class _Pairs:
    """Scored pairs by index of image and text; memory grows with the pairs, not with N x M."""

    def __init__(
        self,
        scores: np.ndarray,
        image_ids: np.ndarray,
        text_ids: np.ndarray,
        image_of_text: Mapping[int, int],
    ) -> None:
        self.scores = np.asarray(scores, np.float64)
        self.texts = np.array(sorted(image_of_text))
        owner_ids = np.array([image_of_text[text] for text in self.texts.tolist()])
        self.images, self.owners = np.unique(owner_ids, return_inverse=True)
        if not len(self.scores) == len(image_ids) == len(text_ids) or not len(self.texts):
            raise UserError(
                f"recall of {len(self.scores)} scores, {len(image_ids)} images, {len(text_ids)} "
                f"texts of {len(self.texts)}; give one of each a pair, and the image of each text"
            )
        self.image_index = _index_of(np.asarray(image_ids), self.images, "image")
        self.text_index = _index_of(np.asarray(text_ids), self.texts, "text")
        pairs, counts = np.unique(
            self.text_index * len(self.images) + self.image_index, return_counts=True
        )
        if (counts > 1).any():
            text, image = divmod(int(pairs[counts.argmax()]), len(self.images))
            raise UserError(
                f"recall: image {self.images[image]} with text {self.texts[text]} is scored "
                f"{counts.max()} times; give each pair once"
            )
        self.is_right = self.owners[self.text_index] == self.image_index

    def ranks_of_texts(self) -> np.ndarray:
        """The rank (0 is best) of each text's image. Shape [M]."""
        num_wrong = np.full(len(self.texts), len(self.images) - 1)
        return self._ranks(self.text_index, num_wrong)

    def ranks_of_images(self) -> np.ndarray:
        """The rank (0 is best) of each image's best text. Shape [N]."""
        num_wrong = len(self.texts) - np.bincount(self.owners)
        return self._ranks(self.image_index, num_wrong)

    def _ranks(self, queries: np.ndarray, num_wrong: np.ndarray) -> np.ndarray:
        best = np.full(len(num_wrong), -np.inf)
        with np.errstate(invalid="ignore"):  # NaN passes through, and ranks last below
            np.maximum.at(best, queries[self.is_right], self.scores[self.is_right])
        is_before = ~(self.scores < best[queries]) & ~self.is_right
        found = np.bincount(queries[is_before], minlength=len(num_wrong))
        # A right candidate without a score, or with NaN, ranks after all that are wrong.
        return np.where(best > -np.inf, found, num_wrong)


def _index_of(ids: np.ndarray, known: np.ndarray, kind: str) -> np.ndarray:
    index = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    unknown = ids[known[index] != ids]
    if len(unknown):
        raise UserError(
            f"recall: {kind} {unknown[0]} is scored but not in image_of_text; give the image of "
            "every text, and no scores of others"
        )
    return index


def _recalls(
    direction: str, found: np.ndarray, groups: np.ndarray, interval_seed: int | None
) -> dict[str, float]:
    """Recall by depth of the ranks found, with intervals where a seed is given."""
    values: dict[str, float] = {}
    for depth in RECALL_DEPTHS:
        values |= _mean(f"{direction}_recall@{depth}", found < depth, groups, interval_seed)
    return values


def _mean(
    name: str, of_queries: np.ndarray, groups: np.ndarray, interval_seed: int | None
) -> dict[str, float]:
    """The mean over queries, with its interval where a seed is given."""
    values = {name: float(of_queries.mean())}
    if interval_seed is not None:
        low, high = bootstrap_interval(of_queries, groups, seed=interval_seed)
        values |= {f"{name}_low": low, f"{name}_high": high}
    return values
