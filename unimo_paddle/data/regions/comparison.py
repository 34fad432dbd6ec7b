"""Whether two stores say the same of the same images: boxes, features, classes.

Boxes of an image are matched one to one, so that they overlap the most in all (Hungarian method);
those that overlap enough are the same region twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from unimo_paddle.data.regions.lookup import possible_ids
from unimo_paddle.data.regions.store import RegionStore


@dataclass(frozen=True)
class ImageComparison:
    """An image in two stores.

    Args:
        indices: its number in each.
        counts: its regions in each.
        overlaps: [M] intersection over union of the boxes of a region.
        cosines: [M] of the features of a region; None where their sizes differ.
        are_same: [M] whether the classes of a region agree; None where a store has none.
        norm_ratios: [M] length of the second feature over that of the first.
    """

    indices: tuple[int, int]
    counts: tuple[int, int]
    overlaps: np.ndarray
    cosines: np.ndarray | None
    are_same: np.ndarray | None
    norm_ratios: np.ndarray

    @property
    def matched_share(self) -> float:
        """Regions that are matched, of all in both: 1 where all are."""
        return 2 * len(self.overlaps) / sum(self.counts)

    @property
    def agreement(self) -> float:
        """How much is alike, for a ranking: matched share, times the cosine where there is one."""
        if self.cosines is None or not len(self.cosines):
            return self.matched_share
        return self.matched_share * float(self.cosines.mean())


def shared_images(first: RegionStore, second: RegionStore) -> list[tuple[int, int]]:
    """Numbers of the images that both stores have, whatever each calls them."""
    places: dict[str, int] = {}
    for index, name in enumerate(second.image_ids()):
        for image_id in possible_ids(name):
            places.setdefault(image_id, index)
    pairs: dict[int, int] = {}
    for index, name in enumerate(first.image_ids()):
        found = next((places[x] for x in possible_ids(name) if x in places), None)
        if found is not None:
            pairs.setdefault(found, index)
    return [(index, other) for other, index in sorted(pairs.items(), key=lambda pair: pair[1])]


def compare_image(
    first: RegionStore, second: RegionStore, indices: tuple[int, int], *, min_overlap: float
) -> ImageComparison:
    """Match the regions of an image in two stores.

    Args:
        min_overlap: intersection over union from which boxes are the same region.
    """
    stores = (first, second)
    regions = [store.regions(index) for store, index in zip(stores, indices, strict=True)]
    shares = [r.boxes / np.float32([r.width, r.height] * 2) for r in regions]
    overlaps = intersection_over_union(*shares)
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    is_match = overlaps[rows, columns] >= min_overlap
    places = (rows[is_match], columns[is_match])
    features = [r.features[p].astype(np.float32) for r, p in zip(regions, places, strict=True)]
    norms = [np.linalg.norm(x, axis=1) for x in features]
    cosines = None
    if first.feature_size == second.feature_size:
        products = (features[0] * features[1]).sum(axis=1)
        cosines = products / np.maximum(norms[0] * norms[1], 1e-12)
    return ImageComparison(
        indices=indices,
        counts=(len(shares[0]), len(shares[1])),
        overlaps=overlaps[places],
        cosines=cosines,
        are_same=_agreement(stores, indices, places),
        norm_ratios=norms[1] / np.maximum(norms[0], 1e-12),
    )


def intersection_over_union(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """Of boxes [n, 4] with boxes [m, 4], x1 y1 x2 y2: [n, m]; 0 where both are empty."""
    low = np.maximum(these[:, None, :2], those[None, :, :2])
    high = np.minimum(these[:, None, 2:], those[None, :, 2:])
    common = (high - low).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1) for boxes in (these, those)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _agreement(
    stores: tuple[RegionStore, RegionStore],
    indices: tuple[int, int],
    places: tuple[np.ndarray, np.ndarray],
) -> np.ndarray | None:
    """Whether classes are the same: by name where both stores know names, else by number."""
    found = [store.classes(index) for store, index in zip(stores, indices, strict=True)]
    if found[0] is None or found[1] is None:
        return None
    classes = [kinds[p] for (kinds, _), p in zip(found, places, strict=True)]
    names = [store.class_names for store in stores]
    if names[0] and names[1] and names[0] != names[1]:
        called = [
            np.array([known[c] if 0 <= c < len(known) else "" for c in kinds], object)
            for kinds, known in zip(classes, names, strict=True)
        ]
        return (called[0] == called[1]) & (called[0] != "")
    return (classes[0] == classes[1]) & (classes[0] >= 0)
