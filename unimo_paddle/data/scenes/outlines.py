"""Outlines of the shapes in unit coordinates, and their masks on a pixel grid."""

from __future__ import annotations

import cv2
import numpy as np

# The hole of a ring, as a share of its radius.
RING_HOLE = 0.5
# Fractional bits of OpenCV's polygon coordinates: edges lie between pixels without aliasing jumps.
_SHIFT = 4


def _circle() -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _square() -> np.ndarray:
    return 0.84 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)


def _triangle() -> np.ndarray:
    return np.array([[0, -1.0], [1.02, 0.78], [-1.02, 0.78]])


def _star() -> np.ndarray:
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.14, 0.5)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y - 2.5], axis=1) / 14.8


_OUTLINES = {
    "circle": _circle(),
    "square": _square(),
    "triangle": _triangle(),
    "star": _star(),
    "heart": _heart(),
    "ring": _circle(),
}


def outline(shape: str, centre: tuple[float, float], radius: float, angle: float) -> np.ndarray:
    """Return the corners [P, 2] of a shape of this radius, turned by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    turned = _OUTLINES[shape] @ np.array([[cos, sin], [-sin, cos]])
    return turned * radius + np.asarray(centre)


def shape_mask(
    shape: str, centre: tuple[float, float], radius: float, angle: float, *, size: int
) -> np.ndarray:
    """Return the mask [size, size] uint8 (0 or 255) of a shape given in units of the image."""
    mask = np.zeros((size, size), np.uint8)
    corners = _pixels(outline(shape, centre, radius, angle), size)
    cv2.fillPoly(mask, [corners], 255, shift=_SHIFT)
    if shape == "ring":
        hole = _pixels(outline("circle", centre, RING_HOLE * radius, angle), size)
        cv2.fillPoly(mask, [hole], 0, shift=_SHIFT)
    return mask


def _pixels(corners: np.ndarray, size: int) -> np.ndarray:
    """Turn image units into the fixed-point pixel coordinates of OpenCV (pixel centres whole)."""
    return np.round((corners * size - 0.5) * (1 << _SHIFT)).astype(np.int32)
