"""What images are compared by: their looks, or the names of their objects."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.images import resize
from unimo_paddle.data.objects import LabelledObject
from unimo_paddle.errors import BadSample, UserError

_SIDE = 96
_CELLS = 4  # along a side, in which gradients and colours have a place
_HUES, _SATURATIONS, _VALUES = 12, 3, 4
_DIRECTIONS = 8
LOOKS_SIZE = _HUES * _SATURATIONS * _VALUES + _CELLS**2 * (_DIRECTIONS + 3)


def describe_looks(paths: Sequence[Path]) -> np.ndarray:
    """Colours and gradients [N, LOOKS_SIZE] float16 of image files, rows of length one.

    The inner product of two rows compares, in equal parts, which colours there are anywhere, which
    colour lies in each of 4 x 4 cells and in which directions its edges run. A file that cannot be
    read becomes zeros.
    """
    rows = np.zeros((len(paths), LOOKS_SIZE), np.float16)
    for row, path in zip(rows, paths, strict=True):
        try:
            row[:] = _looks_of(read_image(path, min_side=_SIDE))
        except BadSample:
            continue
    return rows


def _looks_of(pixels: np.ndarray) -> np.ndarray:
    small = resize(pixels, _SIDE)
    colours = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    bins = [_HUES, _SATURATIONS, _VALUES]
    counts = cv2.calcHist([colours], [0, 1, 2], None, bins, [0, 180, 0, 256, 0, 256])
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steepness, angles = cv2.cartToPolar(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1))
    # An edge from dark to bright and one from bright to dark run in the same direction.
    directions = (angles * (_DIRECTIONS / np.pi)).astype(int) % _DIRECTIONS
    edges = np.stack([np.where(directions == i, steepness, 0) for i in range(_DIRECTIONS)], -1)
    places = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32) - 128
    parts = [np.sqrt(counts.ravel()), np.sqrt(_by_cell(edges)), _by_cell(places)]
    return np.concatenate([_unit(part) for part in parts]) / np.sqrt(len(parts))


def _by_cell(values: np.ndarray) -> np.ndarray:
    """Means over 4 x 4 cells of [side, side, C]."""
    size = _SIDE // _CELLS
    cells = values.reshape(_CELLS, size, _CELLS, size, -1)
    return cells.mean(axis=(1, 3)).ravel()


def _unit(row: np.ndarray) -> np.ndarray:
    return row / max(float(np.linalg.norm(row)), 1e-6)


def names_of(objects: Iterable[LabelledObject]) -> list[str]:
    """What the objects of an image are called: each name, and any two names of one thing together.

    So a red heart and a blue star share more with another red heart than with a blue heart and a
    red star.
    """
    found = []
    for item in objects:
        found += item.names
        found += map(" ".join, itertools.combinations(sorted(item.names), 2))
    return found


def check_objects(found: int, total: int, where: Path | str) -> None:
    """Refuse to compare by objects where hardly any image has them."""
    if 2 * found < total:
        raise UserError(
            f"only {found} of {total} images of {where} have objects; label more, or use --by looks"
        )
