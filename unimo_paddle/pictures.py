"""Pictures that show a person at a glance whether a network learns.

Images come and go as [height, width, 3] uint8 in RGB order.
"""

from __future__ import annotations

import functools
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from unimo_paddle.errors import UserError

WHITE = (255, 255, 255)
INK = (40, 40, 46)
FAINT = (128, 128, 136)
HIDDEN = (198, 200, 206)
RIGHT = (30, 160, 70)
WRONG = (214, 214, 220)
GAP = 10  # pixels between tiles
TILE = 132  # side of an image in a sheet
TEXT_SIZE = 15  # height of a line's letters and their descenders
LINE_STEP = 20  # from line to line
_FONT = cv2.FONT_HERSHEY_DUPLEX
_FINE = 4  # text is drawn this much larger and averaged down: smoother than OpenCV's own


def masked_patches(
    originals: Sequence[np.ndarray],
    is_visible: np.ndarray,
    reconstructions: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Draw, a column each: images, what the network sees of them, what it fills in.

    Args:
        originals: N images of any one size.
        is_visible: [N, rows, columns] bool over the grid of patches.
        reconstructions: N images of which the hidden patches are shown.
    """
    columns = []
    for i, original in enumerate(originals):
        image = fit(original, TILE)
        hidden = _enlarge(~is_visible[i], TILE)
        tiles = [image, _cover(image, hidden, is_visible[i].shape)]
        if reconstructions is not None:
            filled = np.where(hidden[..., None], fit(reconstructions[i], TILE), image)
            tiles.append(_outline(filled.astype(np.uint8), ~is_visible[i]))
        columns.append(tiles)
    titles = ["image", "what the network sees", "what it fills in"]
    rows = []
    for j, title in enumerate(titles[: len(columns[0])]):
        rows.append(text_block(title, width=2 * TILE, colour=FAINT))
        rows.append(beside([tiles[j] for tiles in columns]))
    return _margin(below(rows))


def retrieval_sheet(
    captions: Sequence[str],
    images: Sequence[Sequence[np.ndarray]],
    is_right: Sequence[Sequence[bool]],
) -> np.ndarray:
    """Draw a row for each caption: the text, then what was retrieved for it, best first.

    Right images have a thick green frame, wrong ones a thin grey one.
    """
    width = 2 * TILE
    rows = []
    for caption, retrieved, marks in zip(captions, images, is_right, strict=True):
        tiles = [
            frame(fit(image, TILE), RIGHT if mark else WRONG, width=6 if mark else 2)
            for image, mark in zip(retrieved, marks, strict=True)
        ]
        place = [i + 1 for i, mark in enumerate(marks) if mark]
        note = f"found at place {place[0]}" if place else f"not among the first {len(marks)}"
        text = below(
            [
                text_block(caption, width=width, max_lines=5),
                text_block(note, width=width, colour=RIGHT if place else FAINT),
            ],
            gap=2,
        )
        rows.append(beside([_pad(text, TILE, width), *tiles]))
    return _margin(below(rows))


def caption_sheet(
    images: Sequence[np.ndarray], captions: Sequence[str], *, num_columns: int = 4
) -> np.ndarray:
    """Draw images with what was written about each below it."""
    tiles = [
        below([fit(image, 2 * TILE), text_block(caption, width=2 * TILE, max_lines=5)])
        for image, caption in zip(images, captions, strict=True)
    ]
    return _margin(sheet(tiles, num_columns=num_columns))


def attention_map(
    image: np.ndarray, words: Sequence[str], weights: np.ndarray, *, num_columns: int = 6
) -> np.ndarray:
    """Draw the image once for each word, lit where the word looks.

    Args:
        weights: [T, rows, columns], at least 0; each word is scaled to its own largest.
    """
    base = fit(image, TILE)
    tiles = [_labelled(base, "image", FAINT)]
    for word, weight in zip(words, weights, strict=True):
        tiles.append(_labelled(_light(base, weight), word, INK))
    return _margin(sheet(tiles, num_columns=num_columns))


def training_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, num_columns: int = 3
) -> np.ndarray:
    """Draw a panel for each name: its values over steps, faint, and their running mean."""
    if not curves:
        raise UserError("there are no curves to draw; train with a smaller log_interval")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_columns = min(num_columns, len(curves))
    num_rows = -(-len(curves) // num_columns)
    figure = Figure(figsize=(4.0 * num_columns, 2.7 * num_rows), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for i, (name, (steps, values)) in enumerate(curves.items()):
        axes = figure.add_subplot(num_rows, num_columns, i + 1)
        colour = f"C{i % 10}"
        axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
        axes.plot(steps, running_mean(values), color=colour, linewidth=1.8)
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        if i + num_columns >= len(curves):
            axes.set_xlabel("step", fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def running_mean(values: np.ndarray) -> np.ndarray:
    """The mean over a window of a twentieth of the values, centred; no numbers are passed over."""
    window = max(1, len(values) // 20)
    kernel = np.ones(2 * (window // 2) + 1)
    is_number = np.isfinite(values)
    total = np.convolve(np.where(is_number, values, 0.0), kernel, mode="same")
    count = np.convolve(is_number.astype(float), kernel, mode="same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write a PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_written, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert is_written, path
    path.write_bytes(data.tobytes())


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """Scale an image to a square, keeping its shape on a white ground."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Few pixels stay squares when enlarged: blurred they would look like a fault of the data.
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC if scale < 4 else cv2.INTER_NEAREST
    scaled = cv2.resize(image, target, interpolation=way)
    canvas = np.full((size, size, 3), 255, np.uint8)
    top, left = (size - target[1]) // 2, (size - target[0]) // 2
    canvas[top : top + target[1], left : left + target[0]] = scaled
    return canvas


def frame(image: np.ndarray, colour: tuple[int, int, int], *, width: int) -> np.ndarray:
    """Draw a frame inside the border of an image."""
    framed = image.copy()
    for edge in (
        np.s_[:width],
        np.s_[-width:],
        np.s_[:, :width],
        np.s_[:, -width:],
    ):
        framed[edge] = colour
    return framed


def text_block(
    text: str,
    *,
    width: int,
    colour: tuple[int, int, int] = INK,
    max_lines: int = 3,
) -> np.ndarray:
    """Draw text wrapped to ``width`` pixels; what exceeds ``max_lines`` ends in dots."""
    lines = _wrap(text, width)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1] + " ..."]
        while _text_width(lines[-1]) > width and len(lines[-1]) > 4:
            lines[-1] = lines[-1][:-5].rstrip() + " ..."
    block = np.full((LINE_STEP * max(1, len(lines)), width, 3), 255, np.uint8)
    for i, line in enumerate(lines):
        _draw_line(block[i * LINE_STEP : (i + 1) * LINE_STEP], line, colour)
    return block


def beside(images: Sequence[np.ndarray], *, gap: int = GAP) -> np.ndarray:
    """Put images in a row, aligned at the top."""
    height = max(image.shape[0] for image in images)
    padded = [_pad(image, height, image.shape[1] + gap) for image in images[:-1]]
    return np.concatenate([*padded, _pad(images[-1], height, images[-1].shape[1])], axis=1)


def below(images: Sequence[np.ndarray], *, gap: int = GAP) -> np.ndarray:
    """Put images in a column, aligned at the left."""
    width = max(image.shape[1] for image in images)
    padded = [_pad(image, image.shape[0] + gap, width) for image in images[:-1]]
    return np.concatenate([*padded, _pad(images[-1], images[-1].shape[0], width)], axis=0)


def sheet(images: Sequence[np.ndarray], *, num_columns: int) -> np.ndarray:
    """Put images in rows of ``num_columns``."""
    rows = [images[i : i + num_columns] for i in range(0, len(images), num_columns)]
    return below([beside(row) for row in rows])


def _pad(image: np.ndarray, height: int, width: int) -> np.ndarray:
    missing = ((0, max(0, height - image.shape[0])), (0, max(0, width - image.shape[1])), (0, 0))
    return np.pad(image, missing, constant_values=255)


def _margin(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)


def _enlarge(cells: np.ndarray, size: int) -> np.ndarray:
    """A grid of cells as a square of pixels."""
    enlarged = cv2.resize(cells.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
    return enlarged.astype(bool)


def _cover(image: np.ndarray, hidden: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Cover hidden patches with grey and fine seams, so that single patches can be counted."""
    covered = np.where(hidden[..., None], np.array(HIDDEN, np.uint8), image)
    size = image.shape[0]
    for axis, count in enumerate(grid):
        for place in np.linspace(0, size, count + 1)[1:-1].round().astype(int):
            seam = np.s_[place] if axis == 0 else np.s_[:, place]
            lighter = np.array([min(255, value + 22) for value in HIDDEN], np.uint8)
            covered[seam] = np.where(hidden[seam][..., None], lighter, covered[seam])
    return covered.astype(np.uint8)


def _outline(image: np.ndarray, is_hidden: np.ndarray) -> np.ndarray:
    """Draw the border between hidden and visible patches."""
    hidden = _enlarge(is_hidden, image.shape[0]).astype(np.uint8)
    edge = cv2.morphologyEx(hidden, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)).astype(bool)
    outlined = image.copy()
    outlined[edge] = WHITE
    return outlined


def _light(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Darken an image where the weight is small and colour it where it is large."""
    share = weight.astype(np.float32) / max(float(weight.max(initial=0.0)), 1e-12)
    share = cv2.resize(share, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    heat = cv2.applyColorMap((share * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[
        ..., ::-1
    ]
    grey = image.mean(axis=2, keepdims=True)
    ground = 0.3 * image + 0.3 * grey
    lit = ground + 0.4 * share * image
    strength = 0.65 * share
    return ((1 - strength) * lit + strength * heat).clip(0, 255).astype(np.uint8)


def _labelled(tile: np.ndarray, label: str, colour: tuple[int, int, int]) -> np.ndarray:
    return below([tile, text_block(label, width=tile.shape[1], colour=colour, max_lines=1)], gap=3)


def _wrap(text: str, width: int) -> list[str]:
    """Break text between words; a word wider than a line is broken inside."""
    plain = unicodedata.normalize("NFKD", " ".join(text.split()))
    # OpenCV's letters are ASCII's; accents go, other signs become question marks.
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = plain.encode("ascii", "replace").decode()
    lines = [""]
    for word in plain.split(" "):
        for piece in _pieces(word, width):
            joined = f"{lines[-1]} {piece}".strip()
            if _text_width(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(piece)
    return lines


def _pieces(word: str, width: int) -> list[str]:
    if _text_width(word) <= width:
        return [word]
    num_letters = max(1, int(len(word) * width / _text_width(word)) - 1)
    return textwrap.wrap(word, num_letters)


@functools.cache
def _text_scale(height: int) -> float:
    """The scale at which letters with descenders are ``height`` pixels high."""
    (_, ascent), descent = cv2.getTextSize("Ag", _FONT, 1.0, 1)
    return height / (ascent + descent)


def _text_width(text: str) -> int:
    scale = _FINE * _text_scale(TEXT_SIZE)
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, _FINE)
    return -(-width // _FINE)


def _draw_line(block: np.ndarray, line: str, colour: tuple[int, int, int]) -> None:
    """Blend one line of text into a white block, in place."""
    height, width = block.shape[:2]
    ink = np.zeros((height * _FINE, width * _FINE), np.uint8)
    scale = _FINE * _text_scale(TEXT_SIZE)
    (_, ascent), _ = cv2.getTextSize("A", _FONT, scale, _FINE)
    baseline = 2 * _FINE + ascent
    cv2.putText(ink, line, (0, baseline), _FONT, scale, 255, _FINE, cv2.LINE_AA)
    share = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)[..., None] / 255.0
    block[...] = ((1.0 - share) * block + share * np.array(colour)).round().astype(np.uint8)
