"""Retrieval in two stages: separate scores find the first k, joint scores put them in order.

A separate score is one product of features that are made once; a joint score reads image and text
together, a pass of the network for every pair.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.loader import Stream
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.retrieval import nearest, recall_both_ways, recall_of_scores
from unimo_paddle.tasks.base import Arrays

PAIRS_AT_ONCE = 64
IMAGES_AT_HAND = 64  # encoded images kept: pairs come in the order of their images

SCORE_PAIRS = "score_pairs"  # the service
SEPARATE, JOINT = "separate", "joint"  # the stages

Serve = Callable[[str, Stream], Arrays]


@dataclass(frozen=True)
class Collection:
    """Images and texts to search in.

    Args:
        images: one stream of all images, for ``embed_images``.
        texts: one stream of all texts, for ``embed_texts``.
        encode_image, encode_text: (number) -> sample, as the streams encode them.
        fields: of ``score_pairs``.
        owners: the number of the image that each text belongs to.
    """

    images: Stream
    texts: Stream
    encode_image: Callable[[int], Sample]
    encode_text: Callable[[int], Sample]
    fields: tuple[Field, ...]
    owners: np.ndarray


def search_in_two_stages(
    collection: Collection, serve: Serve, first: int | None
) -> dict[str, dict[str, float]]:
    """Measure recall by separate scores, and after joint scores of the first of each query.

    Args:
        first: candidates of a query that are read jointly; None: all, in one stage.

    Returns:
        Metrics of each stage, with ``seconds`` and ``num_pairs`` that were read jointly.
    """
    if first is not None and first < 1:
        raise UserError(f"the first {first} of each query cannot be read jointly; give at least 1")
    begin = time.perf_counter()
    images = serve("embed_images", collection.images)
    texts = serve("embed_texts", collection.texts)
    owners = collection.owners[texts["index"]]
    is_findable = np.isin(owners, images["index"])  # its image could be used
    text_numbers, owners = texts["index"][is_findable], owners[is_findable]
    image_features, text_features = images["image_features"], texts["text_features"][is_findable]
    separate = recall_both_ways(image_features, text_features, images["index"], owners)
    separate |= {"seconds": time.perf_counter() - begin, "num_pairs": 0.0}
    begin = time.perf_counter()
    count = len(image_features) + len(text_features) if first is None else first
    by_text = nearest(text_features, image_features, count)
    by_image = nearest(image_features, text_features, count)
    # Pairs (image, text) of each direction, and of both, each once, in the order of the images.
    asked = {
        "image_retrieval": _pairs(by_text)[:, ::-1],
        "text_retrieval": _pairs(by_image),
    }
    pairs = np.unique(np.concatenate(list(asked.values())), axis=0)
    scores = score_pairs(collection, serve, images["index"], text_numbers, pairs)
    image_of_text = dict(enumerate(np.searchsorted(images["index"], owners).tolist()))
    key = lambda found: found[:, 0] * len(text_features) + found[:, 1]  # noqa: E731
    joint: dict[str, float] = {}
    for direction, found in asked.items():
        place = np.searchsorted(key(pairs), key(found))
        measured = recall_of_scores(scores[place], *found.T, image_of_text)
        joint |= {name: x for name, x in measured.items() if name.startswith(direction)}
    joint |= {"seconds": time.perf_counter() - begin, "num_pairs": float(len(pairs))}
    return {SEPARATE: separate, JOINT: joint}


def _pairs(found: np.ndarray) -> np.ndarray:
    """(query, candidate) [N * k, 2] of the candidates [N, k] of each query."""
    queries = np.repeat(np.arange(len(found)), found.shape[1])
    return np.stack([queries, found.ravel()], axis=1)


def score_pairs(
    collection: Collection,
    serve: Serve,
    images: np.ndarray,
    texts: np.ndarray,
    pairs: np.ndarray,
) -> np.ndarray:
    """Return joint scores [P] of pairs [P, 2] of images and texts.

    Args:
        images, texts: numbers of those that could be used.
        pairs: places among these; pairs of an image follow each other, so that it is encoded once.
    """
    encode_image = functools.lru_cache(IMAGES_AT_HAND)(collection.encode_image)

    def encode(pair: Sequence[int], _rng: np.random.Generator) -> Sample:
        image, text = pair
        found = encode_image(int(images[image]))
        return {**found, **collection.encode_text(int(texts[text]))}

    stream = Stream("pairs", pairs, encode, collection.fields, PAIRS_AT_ONCE)
    return serve(SCORE_PAIRS, stream)["scores"]
