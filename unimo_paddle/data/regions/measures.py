"""Counts, sizes and ranges of a store, as its manifest holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from unimo_paddle.data.images import outside_and_empty

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
_REGIONS_AT_ONCE = 1 << 20


def describe(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and quantiles: least, 5 %, median, 95 %, most."""
    levels = np.quantile(values, QUANTILES)
    names = ("min", "p05", "median", "p95", "max")
    spread = {"mean": float(np.mean(values)), "std": float(np.std(values))}
    return spread | {name: float(x) for name, x in zip(names, levels, strict=True)}


def measure_arrays(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a manifest says of the arrays of a store; features are not read again."""
    counts = np.diff(arrays["offsets"])
    sizes = arrays["sizes"]
    is_share = (sizes == 1.0).all(axis=1)
    outside, empty = count_bad_boxes(arrays)
    measures: dict[str, Any] = {
        "num_images": len(counts),
        "num_regions": int(counts.sum()),
        "feature_size": arrays["features"].shape[1],
        "images_with_boxes_in_shares": int(is_share.sum()),
        "images_with_boxes_outside": outside,
        "images_with_empty_boxes": empty,
        "regions_per_image": describe(counts),
        "feature_norms": describe(arrays["norms"]),
    }
    if not is_share.all():
        measures["widths"] = describe(sizes[~is_share, 0])
        measures["heights"] = describe(sizes[~is_share, 1])
    if "class_probabilities" in arrays:
        measures["num_classes"] = arrays["class_probabilities"].shape[1]
    return measures


def count_bad_boxes(arrays: dict[str, np.ndarray]) -> tuple[int, int]:
    """How many images have a box that leaves them, and how many one that is empty."""
    num_outside = num_empty = 0
    for first, last in spans(arrays["offsets"]):
        offsets = arrays["offsets"][first : last + 1]
        boxes = arrays["boxes"][offsets[0] : offsets[-1]]
        sizes = np.repeat(arrays["sizes"][first:last], np.diff(offsets), axis=0)
        outside, empty = outside_and_empty(np.asarray(boxes), sizes[:, 0], sizes[:, 1])
        starts = offsets[:-1] - offsets[0]
        num_outside += int(np.logical_or.reduceat(outside, starts).sum())
        num_empty += int(np.logical_or.reduceat(empty, starts).sum())
    return num_outside, num_empty


def spans(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of images with some million regions each."""
    first, count = 0, len(offsets) - 1
    while first < count:
        last = int(np.searchsorted(offsets, offsets[first] + _REGIONS_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last
