"""The grounds that scenes lie on: procedural textures in muted tints."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np


def draw_background(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a ground of a kind in a random muted tint; returns [size, size, 3] float32 BGR.

    The tint is independent of the kind, so that a kind is known by its texture, not its colour.
    """
    hue = float(rng.uniform(0, 360))
    tint = to_bgr(hue, rng.uniform(0.04, 0.2), rng.uniform(0.58, 0.92))
    relief = _RELIEFS[kind](size, rng)
    relief += 0.05 * noise((size, size), 4, rng)
    return (tint * (1 + relief[..., None])).astype(np.float32)


def to_bgr(hue: float, saturation: float, brightness: float) -> np.ndarray:
    """Return the BGR colour [3] in [0, 1] of hue in degrees, saturation and brightness."""
    hsv = np.array(
        [[[hue % 360, np.clip(saturation, 0, 1), np.clip(brightness, 0, 1)]]], np.float32
    )
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0]


def noise(
    shape: tuple[int, int], cells: int | tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Return smooth noise [h, w] float32 of about unit variance with so many cells a side."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _paper(size: int, rng: np.random.Generator) -> np.ndarray:
    """Squared paper: fine lines on a smooth sheet."""
    relief = 0.02 * noise((size, size), size // 4, rng)
    step, phase = size / 8, rng.uniform(0, size / 8)
    width = max(1, size // 96)
    for i in range(9):
        at = int(phase + i * step)
        relief[at : at + width] -= 0.16
        relief[:, at : at + width] -= 0.16
    return relief


def _wood(size: int, rng: np.random.Generator) -> np.ndarray:
    """Boards with long grain and dark joints."""
    relief = 0.055 * noise((size, size), (size // 4, 3), rng)
    board, phase = size / 4, rng.uniform(0, size / 4)
    joint = max(1, size // 64)
    for i in range(-1, 5):
        top, bottom = (int(np.clip(phase + j * board, 0, size)) for j in (i, i + 1))
        relief[top:bottom] += rng.uniform(-0.1, 0.1)
        relief[bottom : bottom + joint] = -0.4
    return relief


def _bricks(size: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of bricks, each a little different, in light mortar."""
    relief = np.full((size, size), 0.16, np.float32)
    height, width = size / 6, size / 3
    gap = max(1, size // 56)
    for row in range(6):
        for column in range(-1, 4):
            left = int((column + 0.5 * (row % 2)) * width)
            top, bottom = int(row * height) + gap, int((row + 1) * height)
            relief[top:bottom, max(0, left + gap) : max(0, left + int(width))] = rng.uniform(
                -0.28, -0.06
            )
    return relief + 0.03 * noise((size, size), size // 4, rng)


def _tiles(size: int, rng: np.random.Generator) -> np.ndarray:
    """A chessboard of two near tones."""
    step = size / 6
    index = ((np.arange(size) + rng.uniform(0, step)) // step).astype(int)
    board = (index[:, None] + index[None, :]) % 2
    return (0.22 * board - 0.14).astype(np.float32)


def _cloth(size: int, rng: np.random.Generator) -> np.ndarray:
    """Woven cloth: crossing broad bands over soft folds."""
    axis = np.arange(size, dtype=np.float32) / size
    bands = np.clip(3 * np.sin(2 * np.pi * (4 * axis + rng.random())), -1, 1)
    bands = bands.astype(np.float32)
    return 0.07 * (bands[:, None] + bands[None, :]) + 0.05 * noise((size, size), 3, rng)


def _sand(size: int, rng: np.random.Generator) -> np.ndarray:
    """Grains over low dunes."""
    dunes = noise((size, size), (5, 2), rng)
    return 0.07 * dunes + 0.1 * noise((size, size), size // 3, rng)


_RELIEFS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "paper": _paper,
    "wood": _wood,
    "bricks": _bricks,
    "tiles": _tiles,
    "cloth": _cloth,
    "sand": _sand,
}
