"""Writing of a store image by image: memory for one of them, gone on with after a kill.

The unfinished store is a hidden folder beside the output. Every so often all files are flushed and
what they hold then is noted; who comes after a kill cuts the files there and goes on, and ends with
the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.checks import StoredImage
from unimo_paddle.data.regions.layout import NAMES_NAME, OF_IMAGES, OF_REGIONS, OPTIONAL, ArrayFile
from unimo_paddle.errors import BadSample, UserError

logger = logging.getLogger(__name__)

PROGRESS_NAME = "progress.json"
IDS_NAME = "ids.txt"
COMMIT_BYTES = 1 << 26  # at most so much is imported again after a kill,
COMMIT_SECONDS = 30.0  # and what took no longer than that
_NUM_NAMED = 20  # records left out that are named


@dataclass
class Progress:
    """What an unfinished store holds.

    Args:
        key: all that the store depends on.
        num_items: records of the source that were looked at.
        num_images, num_regions, num_id_bytes: what was written.
        num_repeated: images that came again, where the source has them once a line.
        num_cut: boxes that were cut at the edges of their image, or left out.
        num_rejected: records left out; the first are in ``rejected``, as place and reason.
        row_shapes: of a region in each array.
        lowest, highest: of all numbers of features.
        names: classes by number, where the source gives names.
    """

    key: dict[str, Any]
    num_items: int = 0
    num_images: int = 0
    num_regions: int = 0
    num_id_bytes: int = 0
    num_repeated: int = 0
    num_cut: int = 0
    num_rejected: int = 0
    rejected: list[list[str]] = field(default_factory=list)
    row_shapes: dict[str, list[int]] = field(default_factory=dict)
    lowest: float = float("inf")
    highest: float = float("-inf")
    names: list[str] = field(default_factory=list)


class StoreWriter:
    """The unfinished store of one import.

    Args:
        folder: where it lies; one with another key is begun anew.
        key: all that the store depends on, as JSON.
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        self.folder = folder
        self.progress = self._read_progress(key)
        folder.mkdir(parents=True, exist_ok=True)
        self._images = {name: self._open(name, dtype) for name, dtype in OF_IMAGES.items()}
        shapes = {name: tuple(shape) for name, shape in self.progress.row_shapes.items()}
        self._regions = {name: self._open(name, OF_REGIONS[name], s) for name, s in shapes.items()}
        self._ids = (folder / IDS_NAME).open("a+b")
        self._ids.truncate(self.progress.num_id_bytes)
        self._ids.seek(0)
        self.seen = set(self._ids.read().split(b"\n")[:-1])
        if len(self.seen) != self.progress.num_images:
            raise UserError(
                f"{folder / IDS_NAME} has {len(self.seen)} of the {self.progress.num_images} names "
                f"that were written; delete {folder} and begin again"
            )
        if not self.progress.num_images:
            self._images["offsets"].append(np.zeros(1, np.int64))
        self._numbers = {name: number for number, name in enumerate(self.progress.names)}
        self._num_bytes, self._last = 0, time.monotonic()

    def _read_progress(self, key: dict[str, Any]) -> Progress:
        path = self.folder / PROGRESS_NAME
        if path.is_file():
            try:
                found = Progress(**json.loads(path.read_text("utf-8")))
            except (ValueError, TypeError):  # after a crash of the machine, or of another version
                found = Progress({})
            if found.key == json.loads(json.dumps(key)):
                logger.info("going on after %d records", found.num_items)
                return found
            logger.warning("%s holds an import of other files or options: begun anew", self.folder)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        return Progress(key)

    def _open(self, name: str, dtype: np.dtype, shape: tuple[int, ...] = ()) -> ArrayFile:
        path, progress = self.folder / f"{name}.npy", self.progress
        if name == "sizes":
            return ArrayFile(path, dtype, (2,), num_rows=progress.num_images)
        if name == "offsets":
            known = progress.num_images + 1 if progress.num_images else 0
            return ArrayFile(path, dtype, (), num_rows=known)
        return ArrayFile(path, dtype, shape, num_rows=progress.num_regions)

    def add(self, image: StoredImage) -> None:
        """Write an image; a ``Fault`` says what it has unlike those before."""
        progress = self.progress
        if image.image_id in self.seen:
            raise Fault(f"image {image.image_id.decode()!r} occurred before")
        self._check_shapes(image)
        for name, rows in image.arrays.items():
            self._regions[name].append(rows)
        self._images["sizes"].append(np.array([image.size]))
        progress.num_images += 1
        progress.num_regions += image.num_regions
        self._images["offsets"].append(np.array([progress.num_regions]))
        progress.num_id_bytes += self._ids.write(image.image_id + b"\n")
        self.seen.add(image.image_id)
        progress.lowest = min(progress.lowest, image.feature_range[0])
        progress.highest = max(progress.highest, image.feature_range[1])
        self._num_bytes += image.arrays["features"].nbytes

    def _check_shapes(self, image: StoredImage) -> None:
        shapes = {name: list(shape) for name, shape in image.row_shapes.items()}
        if not self._regions:
            self.progress.row_shapes = shapes
            for name, shape in image.row_shapes.items():
                self._regions[name] = self._open(name, OF_REGIONS[name], shape)
        known = self.progress.row_shapes
        for name in sorted(known.keys() | shapes.keys()):
            if known.get(name) != shapes.get(name):
                raise Fault(
                    f"{name} have {_describe(name, shapes)}, but those of the first image "
                    f"{_describe(name, known)}"
                )

    def reject(self, bad: BadSample) -> None:
        """Note a record that is left out."""
        self.progress.num_rejected += 1
        if len(self.progress.rejected) < _NUM_NAMED:
            self.progress.rejected.append([bad.where, bad.reason])

    def number_of(self, name: str) -> int:
        """The number of a class by its name, a new one where it has none."""
        if name not in self._numbers:
            self._numbers[name] = len(self._numbers)
            self.progress.names.append(name)
        return self._numbers[name]

    def step(self, num_items: int = 1) -> None:
        """Tell that records were looked at; what they gave is kept now and then."""
        self.progress.num_items += num_items
        if self._num_bytes >= COMMIT_BYTES or time.monotonic() - self._last > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Keep everything up to here, whatever happens."""
        for file in (*self._images.values(), *self._regions.values(), self._ids):
            file.flush()
        path = self.folder / PROGRESS_NAME
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self.progress)), "utf-8")
        os.replace(unfinished, path)
        self._num_bytes, self._last = 0, time.monotonic()

    def finish(self) -> None:
        """Close all arrays with their numbers of rows, and write the index of names."""
        self.commit()
        self._images["sizes"].finish(self.progress.num_images)
        self._images["offsets"].finish(self.progress.num_images + 1)
        for file in self._regions.values():
            file.finish(self.progress.num_regions)
        self._ids.seek(0)
        ids = np.array(self._ids.read().split(b"\n")[:-1])
        self._ids.close()
        order = np.argsort(ids, kind="stable")
        np.save(self.folder / "ids.npy", ids[order])
        np.save(self.folder / "order.npy", order.astype("<i8"))
        if self.progress.names:
            text = json.dumps(self.progress.names, ensure_ascii=False, indent=0)
            (self.folder / NAMES_NAME).write_text(text, "utf-8")


def _describe(name: str, shapes: dict[str, list[int]]) -> str:
    if name not in shapes:
        return "none" if name in OPTIONAL else "nothing"
    return f"{shapes[name][0]} numbers a region" if shapes[name] else "one number a region"
