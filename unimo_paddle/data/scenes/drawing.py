"""Drawing of scenes with OpenCV: textured grounds, patterned objects, shadows and light.

Colours are float32 BGR in [0, 1] until the last step. Everything is drawn at a multiple of the
wanted size and reduced by area averaging, so that small images keep clean edges.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from unimo_paddle.data.scenes.backgrounds import draw_background, noise, to_bgr
from unimo_paddle.data.scenes.grammar import COLOURS, Scene, SceneObject
from unimo_paddle.data.scenes.outlines import shape_mask

# Hue (degrees), saturation, brightness of the colour words.
_COLOUR_HSV = {
    "red": (358, 0.86, 0.86),
    "orange": (29, 0.92, 0.97),
    "yellow": (51, 0.85, 0.97),
    "green": (125, 0.68, 0.66),
    "turquoise": (177, 0.72, 0.83),
    "blue": (221, 0.8, 0.86),
    "purple": (273, 0.62, 0.68),
    "pink": (326, 0.5, 0.97),
}
_LARGE_IMAGE = 96  # pixels; larger images need less supersampling
_PERIOD = 0.096  # of stripes and dots, in units of the image


def render(scene: Scene, image_size: int) -> np.ndarray:
    """Draw a scene; returns [image_size, image_size, 3] uint8 in OpenCV's order BGR."""
    # Textures use up more random numbers in larger images; all else is the same in every size.
    texture_rng, rng = np.random.default_rng(scene.texture_seed).spawn(2)
    size = image_size * (3 if image_size <= _LARGE_IMAGE else 2)
    canvas = draw_background(scene.background, size, texture_rng)
    light = float(rng.uniform(0, 2 * np.pi))
    _scatter_clutter(canvas, rng)
    for item in scene.objects:
        _draw_object(canvas, item, light, rng)
    _light(canvas, light, rng)
    small = cv2.resize(canvas, (image_size, image_size), interpolation=cv2.INTER_AREA)
    small += texture_rng.normal(0, 0.012, small.shape).astype(np.float32)
    return (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8)


def object_colour(item: SceneObject) -> np.ndarray:
    """Return the BGR colour of an object: its word's colour, shifted by its own tone."""
    hue, saturation, brightness = _COLOUR_HSV[item.colour]
    shift = item.tone
    return to_bgr(hue + shift[0], saturation + shift[1], brightness + shift[2])


def _scatter_clutter(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Strew soft patches of light and small confetti, in the objects' own colours.

    They are far smaller or paler than any object, but they weigh in a colour histogram.
    """
    size = len(canvas)
    for _ in range(rng.integers(1, 3)):
        colour = _clutter_colour(rng)
        x, y, radius = np.array([*rng.uniform(0, 1, 2), rng.uniform(0.14, 0.26)]) * (size // 4)
        spot = np.zeros((size // 4, size // 4), np.float32)
        cv2.circle(spot, (int(x), int(y)), int(radius), 1.0, -1)
        spot = cv2.resize(cv2.GaussianBlur(spot, (0, 0), radius / 3), (size, size))
        _blend(canvas, colour, spot * float(rng.uniform(0.15, 0.3)))
    ground = np.array(cv2.mean(canvas)[:3])
    for _ in range(rng.integers(3, 8)):
        colour = 0.8 * _clutter_colour(rng) + 0.2 * ground
        x, y = rng.uniform(0, 1, 2) * size
        length, turn = rng.uniform(0.008, 0.03) * size, rng.uniform(0, np.pi)
        end = (int(x + length * np.cos(turn)), int(y + length * np.sin(turn)))
        thickness = max(1, int(rng.uniform(0.018, 0.032) * size))
        cv2.line(canvas, (int(x), int(y)), end, colour.tolist(), thickness, cv2.LINE_AA)


def _clutter_colour(rng: np.random.Generator) -> np.ndarray:
    hue, saturation, brightness = _COLOUR_HSV[COLOURS[rng.integers(len(COLOURS))]]
    return to_bgr(
        hue + rng.uniform(-8, 8),
        saturation * rng.uniform(0.75, 1),
        brightness * rng.uniform(0.8, 1),
    )


def _draw_object(
    canvas: np.ndarray, item: SceneObject, light: float, rng: np.random.Generator
) -> None:
    """Draw one object with its shadow, its surface, a dark edge and a lit rim, in place."""
    size = len(canvas)
    rows, columns = _window(item, size)
    mask = shape_mask(item.shape, item.centre, item.radius, item.angle, size=size)
    mask = mask[rows, columns].astype(np.float32) / 255
    under = canvas[rows, columns]
    y, x = np.mgrid[rows, columns].astype(np.float32)
    x, y = x / size - item.centre[0], y / size - item.centre[1]
    to_light = np.array([np.cos(light), np.sin(light)])

    shadow = _moved(mask, (-0.02 * to_light + [0, 0.008]) * size)
    _blend(under, np.zeros(3), 0.5 * cv2.GaussianBlur(shadow, (0, 0), 0.016 * size))

    towards = (x * to_light[0] + y * to_light[1]) / item.radius
    edge = mask - mask * cv2.GaussianBlur(mask, (0, 0), 0.014 * size)
    rim = np.clip(mask - _moved(mask, -0.012 * size * to_light), 0, 1)
    rim = cv2.GaussianBlur(rim, (0, 0), 0.004 * size)
    surface = _surface(item, x, y, rng) * (1 + 0.16 * towards - 0.45 * edge)[..., None]
    surface = np.clip(surface + 0.22 * rim[..., None], 0, 1)
    under += mask[..., None] * (surface - under)


def _surface(
    item: SceneObject, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the paint [h, w, 3] of an object at points x, y [h, w] from its centre."""
    turn = item.angle
    if item.pattern == "striped":
        turn += float(rng.integers(4)) * np.pi / 4
    u = (np.cos(turn) * x + np.sin(turn) * y) / _PERIOD
    v = (-np.sin(turn) * x + np.cos(turn) * y) / _PERIOD
    colour = object_colour(item)
    is_light = item.pattern != "plain" and rng.random() < 0.75
    second = 0.22 * colour + 0.78 if is_light else 0.42 * colour
    weight = _PATTERN_WEIGHTS[item.pattern](u, v)[..., None]
    grain = noise(weight.shape[:2], 5, rng)[..., None] * 0.05
    return (colour + weight * (second - colour) + grain).astype(np.float32)


def _stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.cos(2 * np.pi * v) > 0.1).astype(np.float32)


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    row = np.floor(v + 0.5)
    across = u + 0.5 * (row % 2)
    return (np.hypot(across - np.round(across), v - row) < 0.3).astype(np.float32)


def _checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ((np.floor(1.5 * u) + np.floor(1.5 * v)) % 2).astype(np.float32)


def _plain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.zeros_like(u)


# The share of the second tone at each point, in units of the pattern's period.
_PATTERN_WEIGHTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": _plain,
    "striped": _stripes,
    "dotted": _dots,
    "checked": _checks,
}


def _light(canvas: np.ndarray, light: float, rng: np.random.Generator) -> None:
    """Light the scene from one side, warm or cool, a little darker towards the corners."""
    size = len(canvas)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    slope = np.cos(light) * axis[None, :] + np.sin(light) * axis[:, None]
    field = 1 + rng.uniform(0.03, 0.1) * slope
    field -= 0.06 * (axis[None, :] ** 2 + axis[:, None] ** 2)
    field *= rng.uniform(0.9, 1.06)
    warmth = rng.uniform(-0.03, 0.03)
    canvas *= field[..., None] * np.array([1 - warmth, 1, 1 + warmth], np.float32)


def _window(item: SceneObject, size: int) -> tuple[slice, slice]:
    """Return rows and columns around an object that hold it and its shadow."""
    reach = item.radius * 1.2 + 0.08
    x, y = item.centre
    low = [max(0, int((c - reach) * size)) for c in (y, x)]
    high = [min(size, int((c + reach) * size) + 1) for c in (y, x)]
    return slice(low[0], high[0]), slice(low[1], high[1])


def _moved(mask: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return a mask moved by x, y pixels, empty where nothing moves in."""
    matrix = np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float32)
    return cv2.warpAffine(mask, matrix, mask.shape[::-1])


def _blend(canvas: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> None:
    """Mix a colour into the canvas, in place, by a weight [h, w] in [0, 1]."""
    canvas += weight[..., None] * (colour.astype(np.float32) - canvas)
