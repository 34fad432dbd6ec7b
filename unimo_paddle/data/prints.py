"""Prints of images: what tells a copy of an image from another image, in 177 bytes.

A copy has the same bytes, or looks the same after it was re-encoded, resized, cropped by some per
cent at any side or mirrored. Looks are compared in three steps, each dearer and stricter: 64 bits
of low frequencies (the perceptual hash of the library imagehash), 12 x 12 grey values, and 64 x 64
grey values laid over each other at several scales and places. docs/data.md has the figures.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unimo_paddle.data.faiss_library import load_faiss
from unimo_paddle.data.image_files import decode_image
from unimo_paddle.data.shards import read_bytes
from unimo_paddle.errors import BadSample

PRINT = np.dtype(
    [
        ("is_usable", "u1"),
        ("digest", "u1", 16),
        ("hash", "u1", 8),
        ("mirrored_hash", "u1", 8),
        ("looks", "u1", 144),
    ]
)
LOOKS_SIDE = 12
MAX_BITS = 18  # of 64 in which the hashes of a copy may differ
LIKELY_CORRELATION = 0.65  # of 12 x 12 grey values, as they lie
COPY_CORRELATION = 0.935  # of 64 x 64 grey values, laid over each other
_SIDE = 64
_PART = 52  # what is looked for in the other image: a crop may take the rest
# Width and height by which one image is grown to fit the other.
_SCALES = (*((grown, grown) for grown in (1.0, 1.025, 1.05, 1.075, 1.1)), (1.05, 1.0), (1.0, 1.05))
_QUERIES_AT_ONCE = 256
_BITS_OF_MANY = 10  # the same as MAX_BITS, where both sides are large
_MANY = 10**11


@dataclass(frozen=True)
class Copy:
    """An image of ``these`` that is also among ``those``.

    Args:
        this, that: numbers on each side.
        score: 1 for the same bytes, else the correlation of the pixels.
        is_mirrored: whether left and right change places.
    """

    this: int
    that: int
    score: float
    is_mirrored: bool


def print_images(paths: Sequence[Path]) -> np.ndarray:
    """Prints [N] of image files; one that cannot be read is not usable and like none."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        rows = list(pool.map(print_image, paths))
    return np.array(rows, PRINT)


def print_image(path: Path) -> np.void:
    """The print of one file."""
    row = np.zeros((), PRINT)
    try:
        data = read_bytes(path)
        grey = _grey_of(data, str(path))
    except (OSError, BadSample):
        return row[()]
    row["is_usable"] = 1
    row["digest"] = np.frombuffer(hashlib.sha256(data).digest()[:16], np.uint8)
    row["hash"] = _hash(grey)
    row["mirrored_hash"] = _hash(np.ascontiguousarray(grey[:, ::-1]))
    size = (LOOKS_SIDE, LOOKS_SIDE)
    row["looks"] = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).ravel()
    return row[()]


def find_copies(
    these: np.ndarray,
    those: np.ndarray,
    *,
    these_paths: Sequence[Path],
    those_paths: Sequence[Path],
) -> Iterator[Copy]:
    """Find what is on both sides, as groups of one number of ``these`` at a time, best first.

    Two images that cannot be read are no copies. The time is that of all pairs of hashes, some
    nanoseconds each.

    Args:
        these, those: prints of the images under the paths.
    """
    usable = np.flatnonzero(those["is_usable"])
    if not len(usable) or not len(these):
        return
    by_digest: dict[bytes, int] = {}
    for number in usable[::-1]:
        by_digest[those["digest"][number].tobytes()] = int(number)
    index = load_faiss().IndexBinaryFlat(64)
    index.add(np.ascontiguousarray(those["hash"][usable]))
    bits = MAX_BITS if len(these) * len(those) < _MANY else _BITS_OF_MANY
    for start in range(0, len(these), _QUERIES_AT_ONCE):
        part = these[start : start + _QUERIES_AT_ONCE]
        candidates = _candidates(part, those, usable, index, bits)
        for offset, row in enumerate(part):
            this = start + offset
            same = by_digest.get(row["digest"].tobytes()) if row["is_usable"] else None
            if same is not None:
                yield Copy(this, same, 1.0, False)
                continue
            found = [
                Copy(this, that, score, is_mirrored)
                for that, is_mirrored in candidates[offset]
                if (score := _overlay(these_paths[this], those_paths[that], is_mirrored))
                >= COPY_CORRELATION
            ]
            yield from sorted(found, key=lambda copy: (-copy.score, copy.that))


def _candidates(
    part: np.ndarray, those: np.ndarray, usable: np.ndarray, index: Any, bits: int
) -> list[list[tuple[int, bool]]]:
    """Numbers of those that may be copies of each of a part, and whether mirrored ones."""
    candidates: list[list[tuple[int, bool]]] = [[] for _ in part]
    for field, is_mirrored in (("hash", False), ("mirrored_hash", True)):
        # The radius of faiss is exclusive.
        limits, _, found = index.range_search(np.ascontiguousarray(part[field]), bits + 1)
        for i, row in enumerate(part):
            near = usable[np.sort(found[int(limits[i]) : int(limits[i + 1])])]
            if row["is_usable"] and len(near):
                likely = _correlate(row["looks"], those["looks"][near], is_mirrored=is_mirrored)
                candidates[i] += [
                    (int(that), is_mirrored) for that in near[likely >= LIKELY_CORRELATION]
                ]
    return candidates


def _correlate(looks: np.ndarray, others: np.ndarray, *, is_mirrored: bool) -> np.ndarray:
    """Correlation of 12 x 12 grey values with those of others [N, 144]."""
    grey = looks.reshape(LOOKS_SIDE, LOOKS_SIDE).astype(np.float32)
    centred = _centre((grey[:, ::-1] if is_mirrored else grey).reshape(1, -1))
    return (_centre(others.astype(np.float32)) @ centred.T)[:, 0]


def _centre(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _overlay(this: Path, that: Path, is_mirrored: bool) -> float:
    """The best correlation of the middle of one image with any place of the other, both ways."""
    first, second = _grey(this), _grey(that)
    if is_mirrored:
        first = np.ascontiguousarray(first[:, ::-1])
    best = -1.0
    for whole, other in ((first, second), (second, first)):
        for scale in _SCALES:
            width, height = (round(_SIDE * factor) for factor in scale)
            grown = cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR)
            left, top = (width - _PART) // 2, (height - _PART) // 2
            middle = grown[top : top + _PART, left : left + _PART]
            found = cv2.matchTemplate(other, middle, cv2.TM_CCOEFF_NORMED)
            best = max(best, float(found.max()))
    return best


@lru_cache(maxsize=4096)
def _grey(path: Path) -> np.ndarray:
    return _grey_of(read_bytes(path), str(path))


def _grey_of(data: bytes, where: str) -> np.ndarray:
    """An image as 64 x 64 grey values; large JPEG files are decoded at a part of their size."""
    pixels = decode_image(data, where=where, min_side=2 * _SIDE)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _hash(grey: np.ndarray) -> np.ndarray:
    # Here: who trains on data that were looked through before needs none of it.
    import imagehash
    from PIL import Image

    return np.packbits(imagehash.phash(Image.fromarray(grey), hash_size=8).hash)
