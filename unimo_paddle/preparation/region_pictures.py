"""Images with the boxes of their regions, and histograms, for a person to look at."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.regions.layout import SHARES
from unimo_paddle.data.regions.lookup import possible_ids
from unimo_paddle.data.regions.store import RegionStore
from unimo_paddle.data.sources import IMAGE_SUFFIXES
from unimo_paddle.errors import BadSample

SIDE = 520  # pixels of the longer side of a picture
NUM_LABELLED = 12  # boxes with names, the surest; the others are thin lines
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_DUPLEX, 0.42
_BLANK = (236, 236, 240)
_FAINT = (170, 170, 178)
_BARS, _NUM_BARS = "#4a6fa5", 40


def image_files(folder: Path) -> dict[str, Path]:
    """The image files of a folder and below it by all names that a store may have for them."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            for name in possible_ids(str(path.relative_to(folder))):
                files.setdefault(name, path)
    return files


def draw_regions(store: RegionStore, index: int, path: Path | None) -> np.ndarray:
    """The boxes of an image of a store over its pixels, or over a blank of its size."""
    regions = store.regions(index)
    canvas = _canvas((regions.width, regions.height), path)
    scale = np.array([canvas.shape[1] / regions.width, canvas.shape[0] / regions.height] * 2)
    boxes = np.rint(np.asarray(regions.boxes) * scale).astype(int)
    names, order = _labels(store, index, len(boxes))
    for box in boxes[order[NUM_LABELLED:]]:
        cv2.rectangle(canvas, box[:2].tolist(), box[2:].tolist(), _FAINT, 1, cv2.LINE_AA)
    # The surest last, so that it is covered by no other; names over all boxes.
    surest = list(reversed(list(enumerate(order[:NUM_LABELLED]))))
    for place, number in surest:
        corners = boxes[number, :2].tolist(), boxes[number, 2:].tolist()
        cv2.rectangle(canvas, *corners, _colour(place), 2, cv2.LINE_AA)
    for place, number in surest:
        if names[number]:
            _write_name(canvas, boxes[number], names[number], _colour(place))
    return canvas


def _canvas(size: tuple[float, float], path: Path | None) -> np.ndarray:
    if path is not None:
        try:
            pixels = read_image(path, min_side=SIDE)
        except BadSample:
            pixels = None
        if pixels is not None:
            return _fit(pixels)
    width, height = (1.0, 0.75) if size == SHARES else size
    scale = SIDE / max(width, height)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)), 3)
    return np.full(shape, _BLANK, np.uint8)


def _fit(pixels: np.ndarray) -> np.ndarray:
    scale = SIDE / max(pixels.shape[:2])
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=shrinks))


def _labels(store: RegionStore, index: int, count: int) -> tuple[list[str], np.ndarray]:
    """What is written at each box, and the order of the boxes, the surest first."""
    found = store.classes(index)
    if found is None:
        return [""] * count, np.arange(count)
    names = store.class_names
    texts = []
    for number, confidence in zip(*found, strict=True):
        name = names[number] if 0 <= number < len(names) else f"class {number}"
        texts.append(f"{name} {confidence:.2f}" if number >= 0 else "")
    return texts, np.argsort(-found[1], kind="stable")


def _write_name(
    canvas: np.ndarray, box: np.ndarray, text: str, colour: tuple[int, int, int]
) -> None:
    plain = text.encode("ascii", "replace").decode()
    (width, height), below = cv2.getTextSize(plain, _FONT, _FONT_SCALE, 1)
    left = int(np.clip(box[0], 0, max(0, canvas.shape[1] - width - 4)))
    top = int(np.clip(box[1], 0, max(0, canvas.shape[0] - height - below - 4)))
    corner = (left + width + 4, top + height + below + 3)
    cv2.rectangle(canvas, (left, top), corner, colour, cv2.FILLED)
    place = (left + 2, top + height + 2)
    cv2.putText(canvas, plain, place, _FONT, _FONT_SCALE, (255, 255, 255), 1, cv2.LINE_AA)


def _colour(place: int) -> tuple[int, int, int]:
    """Colours that differ from those before and are dark enough for white letters."""
    red, green, blue = colorsys.hsv_to_rgb((0.61 + place * 0.381966) % 1, 0.75, 0.72)
    return round(red * 255), round(green * 255), round(blue * 255)


def histograms(values: Mapping[str, np.ndarray]) -> Figure:
    """A histogram of each array by its title, three in a row; words where there is one value."""
    columns = min(3, len(values))
    rows = -(-len(values) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.5 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis, (title, array) in zip(axes, values.items(), strict=False):
        axis.set_title(title, fontsize=10)
        if _is_constant(array):
            said = f"{array[0]:.4g}\nfor all {len(array):,}"
            axis.text(0.5, 0.5, said, ha="center", va="center", transform=axis.transAxes)
            axis.set_axis_off()
            continue
        axis.hist(array, bins=_edges(array), color=_BARS)
        axis.tick_params(labelsize=8)
        axis.locator_params(axis="x", nbins=6)  # long numbers would run into each other
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(values) :]:
        axis.set_visible(False)
    return figure


def _is_constant(array: np.ndarray) -> bool:
    """Whether all values are one to the digits that an axis would show."""
    low, high = float(array.min()), float(array.max())
    is_whole = array.dtype.kind in "iu"
    return low == high if is_whole else high - low < 1e-4 * max(abs(low), abs(high), 1e-4)


def _edges(array: np.ndarray) -> np.ndarray:
    """A bar for each whole number where these are few, else as many as one can tell apart."""
    if array.dtype.kind in "iu" and np.ptp(array) < 60:
        return np.arange(array.min(), array.max() + 2) - 0.5
    return np.linspace(float(array.min()), float(array.max()), _NUM_BARS + 1)


def spread(count: int, number: int, among: Sequence[int] | None = None) -> list[int]:
    """So many numbers below ``count``, spread over all; of those ``among`` if there are any."""
    chosen = np.asarray(among) if among else np.arange(count)
    places = np.linspace(0, len(chosen) - 1, min(number, len(chosen))).round().astype(int)
    return chosen[np.unique(places)].tolist()
