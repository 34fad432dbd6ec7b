"""Records that are names with arrays, as .npz files, databases and HDF5 groups hold them.

Projects named the same things differently; all names in use are known here. Values may also be
base64 of float32, where lines of a TSV were put into a database as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.formats.lines import decode, table
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
            f"{', '.join(map(str, sorted(record)))[:120] or 'nothing'}"
        )
    given = None if found["count"] is None else _number(found["count"], "number of boxes")
    boxes = _array(found[boxes_name], "boxes", given)
    features = _oriented(_array(found["features"], "features", given), len(boxes))
    number = given if count is None else count
    if number is not None and number > len(boxes):
        raise Fault(f"{len(boxes)} boxes, but their number is {number}")
    used = slice(number)
    if is_share:
        boxes, (width, height) = boxes[:, :4], SHARES
    else:
        width, height = (_size(found, side) for side in ("width", "height"))
    # UNITER's conf is the confidence of the class that is likeliest in its soft_labels.
    classes = found["classes"]
    arrays = {name: found[name] for name in ("class_probabilities", "confidences")}
    if classes is None and found["class_probabilities"] is not None:
        arrays["confidences"] = None
    rows = {
        name: None if value is None else _array(value, name, given)[used]
        for name, value in arrays.items()
    }
    return ImageRegions(
        image_id=image_id,
        features=features[used],
        boxes=boxes[used],
        width=width,
        height=height,
        classes=None if classes is None else _array(classes, "classes", given, "<i8")[used],
        **rows,
    )


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if name in record), None)


def _number(value: Any, what: str) -> int:
    try:
        number = int(np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        raise Fault(f"{what} is {str(value)[:40]!r}, which is no whole number") from None
    if number < 1:
        raise Fault(f"{what} is {number}; it must be at least 1")
    return number


def _size(found: Mapping[str, Any], side: str) -> int:
    if found[side] is None:
        raise Fault(f"{side} of the image is missing; looked for {', '.join(NAMES[side])}")
    return _number(found[side], f"image {side}")


def _array(value: Any, what: str, count: int | None, dtype: str = "<f4") -> np.ndarray:
    if isinstance(value, (str, bytes)):
        if count is None:
            raise Fault(f"{what} are base64 but the number of boxes is missing")
        text = value if isinstance(value, str) else value.decode("ascii", "replace")
        array = decode(text, what, count, dtype)
        return array if what in ("classes", "confidences") else table(array)
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        raise Fault(f"{what} of type {array.dtype} and shape {list(array.shape)} are no table")
    return array


def _oriented(features: np.ndarray, count: int) -> np.ndarray:
    """Rows of regions; some extractors wrote them as columns."""
    is_turned = features.ndim == 2 and len(features) != count == features.shape[1]
    return features.T if is_turned else features
