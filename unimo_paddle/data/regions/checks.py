"""What a record must be to enter a store, and how it is rounded there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unimo_paddle.data.original_regions import BOX_NUMBERS, MAX_REGIONS
from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.layout import OF_REGIONS, OPTIONAL, ImageRegions

HALF_MAX = float(np.finfo(np.float16).max)
MAX_ID_BYTES = 255  # ids lie in one array of that width; file names are no longer


@dataclass(frozen=True)
class StoredImage:
    """An image as the store holds it.

    Args:
        image_id: its name, UTF-8.
        size: width and height.
        feature_range: the least and the greatest number of its features.
        arrays: rows of its regions by the name of the array, in the types of the store.
    """

    image_id: bytes
    size: tuple[float, float]
    feature_range: tuple[float, float]
    arrays: dict[str, np.ndarray]

    @property
    def num_regions(self) -> int:
        """Regions of the image."""
        return len(self.arrays["boxes"])

    @property
    def row_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of a region's row in each array."""
        return {name: rows.shape[1:] for name, rows in self.arrays.items()}


def to_stored(image: ImageRegions) -> StoredImage:
    """Check a record and round it; a ``Fault`` says what is wrong with it."""
    boxes = np.asarray(image.boxes)
    features = np.asarray(image.features)
    _check_shapes(features, boxes)
    count = len(features)
    width, height = float(image.width), float(image.height)
    if not (np.isfinite([width, height]).all() and width > 0 and height > 0):
        raise Fault(f"image size {width:g} x {height:g} is not positive")
    arrays = {
        "features": _to_half(features, "features"),
        "boxes": _finite(boxes, "boxes").astype(OF_REGIONS["boxes"]),
    }
    rounded = arrays["features"].astype(np.float32)
    arrays["norms"] = np.linalg.norm(rounded, axis=1)
    feature_range = (float(rounded.min()), float(rounded.max()))
    if image.class_probabilities is not None:
        arrays["class_probabilities"] = _distributions(image.class_probabilities, count)
    if image.classes is not None:
        arrays["classes"] = _numbers(image.classes, count)
    if image.confidences is not None:
        confidences = _column(image.confidences, "confidences", count)
        arrays["confidences"] = _to_half(confidences, "confidences")
    return StoredImage(_encode_id(image.image_id), (width, height), feature_range, arrays)


def cut_boxes(image: ImageRegions) -> tuple[ImageRegions, int]:
    """The same with boxes cut at the edges of the image, without regions whose box is then empty.

    Returns also how many boxes were changed or left out.
    """
    features, boxes = np.asarray(image.features), np.asarray(image.boxes)
    _check_shapes(features, boxes)
    sides = np.array([image.width, image.height] * 2, np.float32)
    cut = np.clip(_finite(boxes, "boxes"), 0, sides).astype(OF_REGIONS["boxes"])
    is_left = (cut[:, 2:] > cut[:, :2]).all(axis=1)
    if not is_left.any():
        raise Fault("no box is left after they were cut at the edges of the image")
    # Every box is rounded as the store holds it; that is no cut.
    is_changed = (cut != boxes.astype(cut.dtype)).any(axis=1) | ~is_left
    kept = np.flatnonzero(is_left)
    rows: dict[str, Any] = {"features": features[kept], "boxes": cut[kept]}
    for name in OPTIONAL:
        values = getattr(image, name)
        if values is not None:
            if len(values) != len(boxes):
                raise Fault(f"{len(values)} {name} for {len(boxes)} boxes")
            is_list = isinstance(values, list)
            rows[name] = [values[i] for i in kept] if is_list else np.asarray(values)[kept]
    return replace(image, **rows), int(is_changed.sum())


def _check_shapes(features: np.ndarray, boxes: np.ndarray) -> None:
    if features.ndim != 2 or not features.shape[1]:
        raise Fault(f"features have shape {list(features.shape)}, expected [regions, numbers]")
    if not 1 <= len(features) <= MAX_REGIONS:
        raise Fault(f"number of regions is {len(features)}; it must lie in 1 .. {MAX_REGIONS}")
    if boxes.shape != (len(features), BOX_NUMBERS):
        raise Fault(
            f"boxes have shape {list(boxes.shape)}, expected [{len(features)}, {BOX_NUMBERS}]"
        )


def _encode_id(image_id: str) -> bytes:
    name = image_id.strip()
    encoded = name.encode("utf-8", "replace")
    if not name or len(encoded) > MAX_ID_BYTES or any(ord(letter) < 32 for letter in name):
        raise Fault(
            f"name of the image is {name[:40]!r}; give 1 to {MAX_ID_BYTES} bytes of printed text"
        )
    return encoded


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype.kind not in "fiu":
        raise Fault(f"{what} are of type {values.dtype}, not numbers")
    if not np.isfinite(values).all():
        raise Fault(f"{what} hold a value that is not a finite number")
    return values


def _to_half(values: np.ndarray, what: str) -> np.ndarray:
    values = _finite(values, what)
    largest = float(np.abs(values).max())
    if largest > HALF_MAX:
        raise Fault(f"{what} hold {largest:g}, which is beyond half precision ({HALF_MAX:g})")
    return values.astype(OF_REGIONS["features"])


def _column(values: np.ndarray, what: str, count: int) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (count,):
        raise Fault(f"{what} have shape {list(values.shape)}, expected [{count}]")
    return values


def _distributions(values: np.ndarray, count: int) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or len(values) != count or not values.shape[1]:
        raise Fault(
            f"class probabilities have shape {list(values.shape)}, expected [{count}, classes]"
        )
    rounded = _to_half(values, "class probabilities")
    if rounded.min() < 0 or rounded.max() > 1:
        raise Fault("class probabilities hold a value outside 0 .. 1; scores are no distribution")
    return rounded


def _numbers(classes: np.ndarray | list[str], count: int) -> np.ndarray:
    numbers = _column(classes, "classes", count)
    if numbers.dtype.kind not in "iu" or numbers.min() < -1 or numbers.max() > 2**31 - 1:
        raise Fault("classes are no whole numbers from -1 (unknown)")
    return numbers.astype(OF_REGIONS["classes"])
