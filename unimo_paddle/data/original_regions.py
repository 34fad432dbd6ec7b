"""Regions as the original's files hold them: base64 of little-endian float32, boxes in pixels."""

from __future__ import annotations

import base64
import binascii

import numpy as np

from unimo_paddle.data.images import Regions
from unimo_paddle.data.records import Fault

BOX_NUMBERS = 4  # x1 y1 x2 y2
MAX_REGIONS = 10_000  # of one image; more is no count but damage
MAX_DIGITS = 18  # of a whole number; all such fit int64


def parse_original_regions(
    count: str,
    boxes: str,
    features: str,
    *,
    width: str,
    height: str,
    class_probabilities: str | None = None,
) -> Regions:
    """Read one image's regions from the fields of a line; a ``Fault`` says which is wrong."""
    number = whole_number(count, "number of boxes")
    if not 1 <= number <= MAX_REGIONS:
        raise Fault(f"number of boxes is {number}; it must lie in 1 .. {MAX_REGIONS}")
    return Regions(
        features=_decode(features, "features", number),
        boxes=_decode(boxes, "boxes", number, width=BOX_NUMBERS),
        width=whole_number(width, "image width"),
        height=whole_number(height, "image height"),
        class_probabilities=_decode(class_probabilities, "class probabilities", number)
        if class_probabilities
        else None,
    )


def whole_number(text: str, what: str) -> int:
    """Read a whole number that fits int64; anything else is a ``Fault``."""
    text = text.strip()
    if not (text.isascii() and text.isdigit()):
        raise Fault(f"{what} is {text[:40]!r}, which is no whole number")
    if len(text) > MAX_DIGITS:
        raise Fault(f"{what} has {len(text)} digits; at most {MAX_DIGITS} can be used")
    return int(text)


def whole_numbers(text: str, what: str) -> tuple[int, ...]:
    """Read numbers with spaces between."""
    return tuple(whole_number(word, what) for word in text.split())


def _decode(text: str, what: str, rows: int, *, width: int | None = None) -> np.ndarray:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Fault(f"{what} are not base64: {text[:20]!r}") from None
    row_bytes = 4 * (1 if width is None else width)
    rest = len(data) % (row_bytes * rows) if width is None else len(data) - row_bytes * rows
    if not data or rest:
        expected = f"{rows} rows" if width is None else f"{rows} rows of {width}"
        raise Fault(f"{what} of {len(data)} bytes do not fill {expected} of float32")
    return np.frombuffer(data, "<f4").reshape(rows, -1)
