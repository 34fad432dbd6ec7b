"""Contact sheets of scenes for documents and reports."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PAPER, _INK = (250, 250, 250), (60, 60, 60)


def contact_sheet(
    folder: Path,
    split: str = "test",
    *,
    num_rows: int = 3,
    num_columns: int = 6,
    tile_size: int = 192,
) -> np.ndarray:
    """Return the first images of a split in a grid, each over its first caption, uint8 BGR.

    Small images are enlarged without smoothing, so that their pixels are seen as a model sees them.
    """
    lines = (Path(folder) / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines[: num_rows * num_columns]]
    tiles = [_tile(Path(folder), record, tile_size) for record in records]
    blank = np.full_like(tiles[0], _PAPER[0])
    tiles += [blank] * (-len(tiles) % num_columns)
    rows = [np.hstack(tiles[i : i + num_columns]) for i in range(0, len(tiles), num_columns)]
    return np.vstack(rows)


def _tile(folder: Path, record: dict, tile_size: int) -> np.ndarray:
    """Return one image with its caption below, framed by a margin."""
    margin, line_height, num_lines = 8, 15, 4
    image = cv2.imread(str(folder / record["image"]))
    enlarge = cv2.INTER_NEAREST if image.shape[0] < tile_size else cv2.INTER_AREA
    height = tile_size + num_lines * line_height + 2 * margin
    tile = np.full((height, tile_size + 2 * margin, 3), _PAPER[0], np.uint8)
    tile[margin : margin + tile_size, margin : margin + tile_size] = cv2.resize(
        image, (tile_size, tile_size), interpolation=enlarge
    )
    letters = int(tile_size / 5.8)
    for i, line in enumerate(textwrap.wrap(record["captions"][0], letters)[:num_lines]):
        baseline = margin + tile_size + (i + 1) * line_height
        cv2.putText(tile, line, (margin, baseline), _FONT, 0.36, _INK, 1, cv2.LINE_AA)
    return tile
