"""What a store of regions is like beside what the model expects, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.regions.coverage import Coverage
from unimo_paddle.data.regions.store import RegionStore
from unimo_paddle.tasks.pretraining_settings import PretrainingDataConfig

FEW_REGIONS = 5  # fewer say little of an image
DEAD_NORM = 1e-3  # a feature as short as that says nothing


@dataclass(frozen=True)
class Expected:
    """What the model reads; the defaults are those of the original."""

    feature_size: int = ImageConfig.feature_size
    max_regions: int = ImageConfig.max_regions
    num_region_classes: int = PretrainingDataConfig.num_region_classes


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Args:
        is_fine: whether nothing need be done.
        text: what was compared, what was found, and what to do.
    """

    is_fine: bool
    text: str


def findings(
    store: RegionStore, expected: Expected, coverage: Coverage | None = None
) -> list[Finding]:
    """All comparisons, in the order in which they matter."""
    found = [_feature_size(store, expected), _classes(store, expected), *_names(store)]
    found += [_counts(store, expected), *_boxes(store), _norms(store)]
    if coverage is not None:
        found.append(Finding(not coverage.missing, f"{coverage.summary()}."))
    rejected, repeated = store.manifest["rejected"], store.manifest["repeated"]
    if repeated:
        text = f"Records whose image was read before, and passed over: {repeated}."
        found.append(Finding(True, text))
    found.append(Finding(not rejected, f"Records of the source that cannot be used: {rejected}."))
    return found


def _feature_size(store: RegionStore, expected: Expected) -> Finding:
    size, wanted = store.feature_size, expected.feature_size
    if size == wanted:
        return Finding(True, f"Features have {size} numbers, as the model expects.")
    return Finding(
        False,
        f"Features have {size} numbers, the model expects {wanted}: set model.region_feature_size "
        f"and task.data.image.feature_size to {size}; released weights cannot read them.",
    )


def _classes(store: RegionStore, expected: Expected) -> Finding:
    count, wanted = store.num_classes, expected.num_region_classes
    if not count:
        return Finding(
            False,
            "There are no class distributions: pre-training cannot classify hidden regions; set "
            "task.weights.region_classification to 0. Fine-tuning does not need them.",
        )
    if count == wanted:
        return Finding(True, f"Distributions are over {count} classes, as the model expects.")
    return Finding(
        False,
        f"Distributions are over {count} classes, the model expects {wanted}: set "
        f"task.data.num_region_classes to {count}.",
    )


def _names(store: RegionStore) -> list[Finding]:
    """Whether there are as many names as classes that may have one."""
    names = len(store.class_names)
    things = store.num_classes - int(store.manifest["has_background"])
    if not names or not store.num_classes or names == things:
        return []
    text = f"There are {names} names for {things} classes beside the background: --names is of "
    return [Finding(False, text + "another detector, or has a name for the background.")]


def _counts(store: RegionStore, expected: Expected) -> Finding:
    counts = np.diff(store.arrays["offsets"])
    num_long = int((counts > expected.max_regions).sum())
    num_short = int((counts < FEW_REGIONS).sum())
    spread = f"Images have {counts.min()} to {counts.max()} regions, {counts.mean():.1f} on average"
    parts = [f"{spread}; the model reads at most {expected.max_regions} of each."]
    if num_long:
        parts.append(f"Images with more: {num_long}; what exceeds it counts in the mean only.")
    if num_short:
        parts.append(f"Images with fewer than {FEW_REGIONS}: {num_short}.")
    return Finding(not num_long and not num_short, " ".join(parts))


def _boxes(store: RegionStore) -> list[Finding]:
    manifest = store.manifest
    outside, empty = manifest["images_with_boxes_outside"], manifest["images_with_empty_boxes"]
    remedy = " Such images are named and left out in training; --cut_boxes mends them at import."
    shares, total = manifest["images_with_boxes_in_shares"], manifest["num_images"]
    found = [
        Finding(
            not outside and not empty,
            f"Images with a box outside of them: {outside}; with an empty box: {empty}."
            + (remedy if outside + empty else ""),
        )
    ]
    if manifest["boxes_cut"]:
        number = manifest["boxes_cut"]
        text = f"Boxes that were cut at the edges of their image, or left out: {number}."
        found.append(Finding(True, text))
    if shares:
        found.append(
            Finding(
                True,
                f"Boxes of {shares} of {total} images are shares of the image, whose size the "
                "source does not tell; the model reads shares anyway.",
            )
        )
    return found


def _norms(store: RegionStore) -> Finding:
    norms, (low, high) = store.manifest["feature_norms"], store.manifest["feature_range"]
    text = (
        f"Features are {norms['median']:.3g} long in the middle ({norms['p05']:.3g} to "
        f"{norms['p95']:.3g} for nine tenths), their numbers lie in {low:.3g} to {high:.3g}"
    )
    if low >= 0:
        text += " and are never negative, as those pooled after a ReLU"
    num_dead = int((np.asarray(store.arrays["norms"]) < DEAD_NORM).sum())
    if num_dead:
        text += f"; {num_dead} are zero and say nothing: look at the detector"
    return Finding(not num_dead, f"{text}.")
