"""Results of long work, kept a chunk a file, so that a killed process is gone on with.

A chunk is a function of its place alone. Who comes after a kill computes the chunk that was in the
making again and finds the same bytes in all others.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle.data.publish import publish

logger = logging.getLogger(__name__)

KEY_NAME = "key.json"


class Chunks:
    """Rows of one array in files of ``size`` rows each; read without being loaded as a whole."""

    def __init__(self, folder: Path, num_rows: int, size: int) -> None:
        self.folder = folder
        self.num_rows = num_rows
        self.size = size

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Iterator[np.ndarray]:
        """The chunks in order, each mapped."""
        for number in range(self.num_chunks):
            yield np.load(self.path(number), mmap_mode="r", allow_pickle=False)

    @property
    def num_chunks(self) -> int:
        """Files when all is done."""
        return -(-self.num_rows // self.size)

    def path(self, number: int) -> Path:
        """Where a chunk lies."""
        return self.folder / f"{number:06d}.npy"

    def bounds(self, number: int) -> tuple[int, int]:
        """First row of a chunk and the row after its last."""
        return number * self.size, min((number + 1) * self.size, self.num_rows)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows of any range, in memory."""
        parts = []
        for number in range(start // self.size, -(-stop // self.size)):
            first, last = self.bounds(number)
            chunk = np.load(self.path(number), mmap_mode="r", allow_pickle=False)
            parts.append(np.asarray(chunk[max(start - first, 0) : min(stop, last) - first]))
        return np.concatenate(parts)

    def read_all(self) -> np.ndarray:
        """All rows in memory."""
        return self.read(0, self.num_rows)


class Workshop:
    """A folder of chunks for one piece of work; other work empties it first.

    Args:
        key: all that the results depend on, as JSON.
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        self.folder = folder
        text = json.dumps(key, sort_keys=True, indent=1)
        path = folder / KEY_NAME
        if folder.exists() and not (path.is_file() and path.read_text("utf-8") == text):
            logger.warning("%s holds unfinished work on other files or options: begun anew", folder)
            shutil.rmtree(folder)
        publish(path, lambda unfinished: unfinished.write_text(text, "utf-8"))

    def compute(
        self,
        name: str,
        num_rows: int,
        make: Callable[[int, int], np.ndarray],
        *,
        size: int,
        unit: str,
    ) -> Chunks:
        """Make what is not there yet of an array, with progress on the console.

        Args:
            name: of the array, shown beside the progress.
            make: rows from ``start`` to before ``stop``.
            size: rows of a chunk; after a kill at most one is computed again.
            unit: what a row is, in one word.
        """
        chunks = Chunks(self.folder / name, num_rows, size)
        missing = [i for i in range(chunks.num_chunks) if not chunks.path(i).exists()]
        total = sum(stop - start for start, stop in map(chunks.bounds, missing))
        with tqdm(
            total=num_rows, initial=num_rows - total, desc=name, unit=f" {unit}", mininterval=1
        ) as progress:
            for number in missing:
                start, stop = chunks.bounds(number)
                rows = make(start, stop)
                assert len(rows) == stop - start, (name, len(rows), start, stop)
                publish(chunks.path(number), lambda path, rows=rows: np.save(path, rows))
                progress.update(stop - start)
        return chunks

    def make_file(self, name: str, write: Callable[[Path], None]) -> Path:
        """A file that is written once and whole."""
        path = self.folder / name
        publish(path, write)
        return path

    def remove(self) -> None:
        """Delete the folder, when the work is done."""
        shutil.rmtree(self.folder)
