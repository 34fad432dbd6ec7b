"""Records that are names with arrays, as .npz files, databases and HDF5 groups hold them.

Projects named the same things differently; all names in use are known here. Values may also be
base64 of float32, where lines of a TSV were put into a database as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unimo_paddle.data.original_regions import decode_rows
from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.layout import SHARES, ImageRegions

NAMES = {
    "features": ("features", "x"),
    "boxes": ("boxes", "bbox"),
    "shares": ("norm_bb",),  # UNITER: x1 y1 x2 y2 w h as shares of width and height
    "width": ("image_w", "img_w", "image_width", "width"),
    "height": ("image_h", "img_h", "image_height", "height"),
    "count": ("num_boxes", "num_bbox"),
    "class_probabilities": ("soft_labels", "cls_prob", "class_probabilities"),
    "classes": ("objects_id",),
    "confidences": ("objects_conf", "conf"),
}


def image_of(record: Mapping[str, Any], image_id: str, *, count: int | None = None) -> ImageRegions:
    """The regions of a record.

    Args:
        count: so many are used, where more are there; None is the record's own number, or all.
    """
    found = {key: _first(record, names) for key, names in NAMES.items()}
    is_share = found["boxes"] is None
    boxes_name = "shares" if is_share else "boxes"
    missing = [name for name in ("features", boxes_name) if found[name] is None]
    if missing:
        wanted = ", ".join("/".join(NAMES[name]) for name in ("features", "boxes", "shares"))
        raise Fault(
            f"{missing[0].replace('shares', 'boxes')} are missing; looked for {wanted}, found "
            f"{', '.join(sorted(map(str, record)))[:120] or 'nothing'}"
        )
    given = None if found["count"] is None else _number(found["count"], "number of boxes")
    boxes = table_of(found[boxes_name], "boxes", given)
    features = _oriented(table_of(found["features"], "features", given), len(boxes))
    number = given if count is None else count
    if number is not None and number > len(boxes):
        raise Fault(f"{len(boxes)} boxes, but their number is {number}")
    used = slice(number)
    if is_share:
        boxes, (width, height) = boxes[:, :4], SHARES
    else:
        width, height = (_size(found, side) for side in ("width", "height"))
    # UNITER's conf is the confidence of the class that is likeliest in its soft_labels.
    classes, probabilities = found["classes"], found["class_probabilities"]
    confidences = found["confidences"] if classes is not None or probabilities is None else None
    return ImageRegions(
        image_id=image_id,
        features=features[used],
        boxes=boxes[used],
        width=width,
        height=height,
        class_probabilities=None
        if probabilities is None
        else table_of(probabilities, "class probabilities", given)[used],
        classes=None if classes is None else _column(classes, "classes", given, "<i8")[used],
        confidences=None
        if confidences is None
        else _column(confidences, "confidences", given)[used],
    )


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if name in record), None)


def _number(value: Any, what: str) -> int:
    try:
        number = int(np.asarray(value).reshape(()))
    except (TypeError, ValueError, OverflowError):
        raise Fault(f"{what} is {str(value)[:40]!r}, which is no whole number") from None
    if number < 1:
        raise Fault(f"{what} is {number}; it must be at least 1")
    return number


def _size(found: Mapping[str, Any], side: str) -> int:
    if found[side] is None:
        raise Fault(f"{side} of the image is missing; looked for {', '.join(NAMES[side])}")
    return _number(found[side], f"image {side}")


def table_of(value: Any, what: str, count: int | None = None) -> np.ndarray:
    """Rows of regions [n, numbers].

    Args:
        count: of the rows, for base64.
    """
    if isinstance(value, (str, bytes)):
        return _decoded(value, what, count)
    array = _numbers(value, what)
    if array.ndim != 2:
        raise Fault(f"{what} have shape {list(array.shape)}, which is no table")
    return array


def _column(value: Any, what: str, count: int | None, dtype: str = "<f4") -> np.ndarray:
    """A number of each region [n]."""
    if isinstance(value, (str, bytes)):
        return _decoded(value, what, count, dtype=dtype, width=1)[:, 0]
    array = _numbers(value, what)
    if array.ndim != 1:
        raise Fault(f"{what} have shape {list(array.shape)}, not one number a region")
    return array


def _decoded(value: str | bytes, what: str, count: int | None, **layout: Any) -> np.ndarray:
    if count is None:
        raise Fault(f"{what} are base64 but the number of boxes is missing")
    return decode_rows(value, what, count, **layout)


def _numbers(value: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError):  # lists of different lengths
        raise Fault(f"{what} are no table of numbers") from None
    if array.dtype.kind not in "fiu":
        raise Fault(f"{what} are of type {array.dtype}, not numbers")
    return array


def _oriented(features: np.ndarray, count: int) -> np.ndarray:
    """Rows of regions; some extractors wrote them as columns."""
    is_turned = len(features) != count == features.shape[1]
    return features.T if is_turned else features
