"""Whether a model prefers a caption to one with a single change that makes it false.

Recall hardly tells whether order and attributes are understood: "Winoground" (arXiv 2204.03162)
and "ARO" (arXiv 2210.01936) found models of high recall near chance here. Chance is one half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unimo_paddle.data.rewriting import RewrittenCaptions
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.metrics.intervals import mean_with_interval
from unimo_paddle.tasks.reranking import Collection, Serve, score_pairs

KINDS = ("object", "attribute", "relation")
MAX_CAPTIONS = 1000  # measured: first captions of all images, then second ones, and so on


@dataclass(frozen=True)
class Changed:
    """A caption beside a false one.

    Args:
        record: number of the image's record.
        kind: what was changed.
    """

    record: int
    caption: str
    false: str
    kind: str


def find_changed(records: Sequence[PairRecord], rewritten: RewrittenCaptions) -> list[Changed]:
    """The first rewrite of each kind of the captions that are measured."""
    return [
        Changed(record, records[record].captions[caption], text, kind)
        for record, caption in _measured(records)
        for kind, text in _firsts(rewritten, record, caption).items()
    ]


def _measured(records: Sequence[PairRecord]) -> Iterator[tuple[int, int]]:
    most = max(len(record.captions) for record in records)
    every = (
        (number, caption)
        for caption in range(most)
        for number, record in enumerate(records)
        if caption < len(record.captions)
    )
    for place, found in enumerate(every):
        if place == MAX_CAPTIONS:
            return
        yield found


def _firsts(rewritten: RewrittenCaptions, record: int, caption: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in rewritten.negatives(record, caption):
        if item.kind in KINDS:
            found.setdefault(item.kind, item.text)
    return found


def measure_changed(
    changed: Sequence[Changed], collection: Collection, serve: Serve, *, joint: bool
) -> dict[str, float]:
    """Return the share of captions that score higher than the false ones beside them.

    ``one_change_accuracy`` is over all, ``one_change_KIND_accuracy`` over those of a kind; with
    ``joint_`` behind ``one_change_`` by joint scores. Each has ``_low`` and ``_high``, its 95 %
    bootstrap interval over the images.

    Args:
        collection: its images are those of the records by their number, its texts the captions
            and the false ones of ``changed`` in turn.
        joint: whether the model has joint scores.
    """
    images = serve("embed_images", collection.images)
    texts = serve("embed_texts", collection.texts)
    places = np.full(len(collection.images.records), -1)
    places[images["index"]] = np.arange(len(images["index"]))
    rows = places[[item.record for item in changed]]
    is_usable = rows >= 0
    numbers = np.flatnonzero(is_usable)
    # In the order of the images, so that each is encoded once.
    numbers = numbers[np.argsort(rows[numbers], kind="stable")]
    pairs = np.stack([np.repeat(rows[numbers], 2), _texts_of(numbers)], axis=1)
    features = images["image_features"][pairs[:, 0]], texts["text_features"][pairs[:, 1]]
    scores = {"one_change_": (features[0] * features[1]).sum(axis=1)}
    if joint:
        scores["one_change_joint_"] = score_pairs(
            collection, serve, images["index"], texts["index"], pairs
        )
    kinds = np.array([changed[number].kind for number in numbers])
    owners = np.array([changed[number].record for number in numbers])
    values: dict[str, float] = {}
    for prefix, found in scores.items():
        is_right = found[0::2] > found[1::2]
        values |= mean_with_interval(f"{prefix}accuracy", is_right, owners.tolist())
        for kind in KINDS:
            is_of = kinds == kind
            if is_of.any():
                name, images = f"{prefix}{kind}_accuracy", owners[is_of].tolist()
                values |= mean_with_interval(name, is_right[is_of], images)
    return values


def _texts_of(numbers: np.ndarray) -> np.ndarray:
    """The places of caption and false caption, in turn."""
    return np.stack([2 * numbers, 2 * numbers + 1], axis=1).ravel()
