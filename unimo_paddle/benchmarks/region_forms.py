"""Readers of region features in a worker: a store, base64 lines, and a copy in memory."""

from __future__ import annotations

import base64
import platform
from pathlib import Path

import numpy as np

from unimo_paddle.benchmarks.reader import RegionCase
from unimo_paddle.data.original_retrieval import read_region_lines
from unimo_paddle.data.regions import RegionStore
from unimo_paddle.data.regions.formats import SourceOptions, open_source
from unimo_paddle.data.regions.importing import import_regions

BATCH_SIZE = 32  # images whose rows are kept, as a batch keeps them
NUM_CHECKED = 4  # images whose numbers are compared
LINES_NAME, STORE_NAME = "features.tsv", "store"


def write_regions(folder: Path, case: RegionCase) -> None:
    """Write the same regions as lines of the original and as a store."""
    rng = np.random.default_rng(0)
    shape = (case.num_regions, case.feature_size)
    boxes = _encode(np.tile(np.float32([0, 0, 10, 10]), (case.num_regions, 1)))
    with (folder / LINES_NAME).open("w") as file:
        for number in range(case.count):
            # Exact in half precision, so that all read the same numbers.
            features = rng.random(shape, np.float32).astype(np.float16).astype(np.float32)
            columns = (number, 640, 480, case.num_regions, boxes, _encode(features), "")
            file.write("\t".join(map(str, columns)) + "\n")
    source = open_source("original", [folder / LINES_NAME], SourceOptions())
    import_regions(source, folder / STORE_NAME, options={"format": "original"})


def _encode(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


class _Rows:
    """The features of all images in a random order, each into a place of a batch."""

    dtype = np.float16

    def __init__(self, case: RegionCase) -> None:
        self.folder = Path(case.folder)
        self.order = np.random.default_rng(1).permutation(case.count).tolist()
        shape = (BATCH_SIZE, case.num_regions, case.feature_size)
        self.batch = np.zeros(shape, self.dtype)
        self.open()

    @staticmethod
    def versions() -> dict[str, str]:
        """Of what is measured."""
        return {"NumPy": np.__version__, "Python": platform.python_version()}

    def open(self) -> None:
        """Get ready to read."""
        raise NotImplementedError

    def read(self, number: int) -> np.ndarray:
        """The features of an image."""
        raise NotImplementedError

    def run(self) -> None:
        """Read all images once."""
        for place, number in enumerate(self.order):
            self.batch[place % BATCH_SIZE] = self.read(number)

    def results(self) -> float:
        """Sum of the numbers of some images."""
        some = [np.asarray(self.read(number)) for number in self.order[:NUM_CHECKED]]
        return float(sum(features.sum(dtype=np.float64) for features in some))


class Store(_Rows):
    """Slices of the mapped files; images were looked up before, as tasks do with their records."""

    def open(self) -> None:
        """See ``_Rows``."""
        store = RegionStore(self.folder / STORE_NAME)
        self.entries = [store.entry(store.index_of(str(n))) for n in range(len(store))]

    def read(self, number: int) -> np.ndarray:
        """See ``_Rows``."""
        return self.entries[number].load().features


class Memory(_Rows):
    """The same bytes from memory: what no reader can beat."""

    def open(self) -> None:
        """See ``_Rows``."""
        store = RegionStore(self.folder / STORE_NAME)
        self.features = np.array(store.arrays["features"]).reshape(-1, *self.batch.shape[1:])

    def read(self, number: int) -> np.ndarray:
        """See ``_Rows``."""
        return self.features[number]


class Lines(_Rows):
    """Base64 of float32 in lines, read where it is needed."""

    dtype = np.float32

    def open(self) -> None:
        """See ``_Rows``."""
        size = self.batch.shape[2]
        self.lines = read_region_lines(self.folder / LINES_NAME, feature_size=size)

    def read(self, number: int) -> np.ndarray:
        """See ``_Rows``."""
        return self.lines[str(number)].load().features
