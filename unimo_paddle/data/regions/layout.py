"""The files of a store of regions, N images with R regions in all.

    manifest.json            counts, sizes, ranges, norms, what was left out, checksums, the source
    features.npy             [R, F] float16
    boxes.npy                [R, 4] float32, x1 y1 x2 y2; half precision would cost pixels
    sizes.npy                [N, 2] float32, width and height in pixels; 1 1 where boxes are shares
    offsets.npy              [N + 1] int64: image i has the rows offsets[i] .. offsets[i + 1]
    ids.npy, order.npy       [N] names of images, sorted, and the images that they name
    norms.npy                [R] float32, lengths of the features
    class_probabilities.npy  [R, C] float16, where the detector gave distributions
    classes.npy              [R] int32, the thing in the box as a number, where that is known
    confidences.npy          [R] float16, how sure the detector was of it
    class_names.json         what the numbers stand for, where that is known

All arrays are .npy files, which NumPy maps.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from unimo_paddle.errors import UserError

FORMAT = "unimo_paddle regions"
VERSION = 1
MANIFEST_NAME = "manifest.json"
NAMES_NAME = "class_names.json"
SHARES = (1.0, 1.0)  # width and height of an image whose boxes are shares of them

# Arrays with a row for each region, and those that may be absent.
OF_REGIONS = {
    "features": np.dtype("<f2"),
    "boxes": np.dtype("<f4"),
    "norms": np.dtype("<f4"),
    "class_probabilities": np.dtype("<f2"),
    "classes": np.dtype("<i4"),
    "confidences": np.dtype("<f2"),
}
OPTIONAL = ("class_probabilities", "classes", "confidences")
OF_IMAGES = {"sizes": np.dtype("<f4"), "offsets": np.dtype("<i8")}


@dataclass(frozen=True)
class ImageRegions:
    """A detector's output for one image, as an importer reads it.

    Args:
        image_id: name of the image.
        features: [n, F].
        boxes: [n, 4], x1 y1 x2 y2 in pixels, or in shares where width and height are 1.
        class_probabilities: [n, C], background first where there is one.
        classes: [n], the thing in each box: numbers, or names.
        confidences: [n], how sure the detector is of it.
    """

    image_id: str
    features: np.ndarray
    boxes: np.ndarray
    width: float
    height: float
    class_probabilities: np.ndarray | None = None
    classes: np.ndarray | list[str] | None = None
    confidences: np.ndarray | None = None


class ArrayFile:
    """An .npy file that grows row by row; its header is written again when it is whole.

    NumPy pads headers so that the number of rows may grow, for just this use.

    Args:
        row_shape: of a row.
        num_rows: kept of a file that is there already; what follows them is cut off. A file that
            does not hold so many is a ``UserError``.
    """

    def __init__(
        self, path: Path, dtype: np.dtype, row_shape: tuple[int, ...], *, num_rows: int = 0
    ) -> None:
        self._dtype, self._row_shape = dtype, row_shape
        self._file = path.open("r+b" if path.exists() else "w+b")
        present = self._file.seek(0, os.SEEK_END)
        self._write_header(0)
        size = dtype.itemsize * int(np.prod(row_shape, dtype=np.int64))
        end = self._file.tell() + num_rows * size
        if num_rows and present < end:  # after a crash of the machine; zeros would stand for rows
            raise UserError(
                f"{path} has {present} bytes of the {end} that were written; delete {path.parent} "
                "and begin again"
            )
        self._file.seek(end)
        self._file.truncate()

    def append(self, rows: np.ndarray) -> None:
        """Write rows, converted to the type of the file."""
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def finish(self, num_rows: int) -> None:
        """Write the number of rows into the header, and close."""
        self._write_header(num_rows)
        self._file.close()

    def _write_header(self, num_rows: int) -> None:
        self._file.seek(0)
        npy.write_array_header_1_0(
            self._file,
            {
                "descr": npy.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (num_rows, *self._row_shape),
            },
        )
