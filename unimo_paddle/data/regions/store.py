"""Reading of a store of regions: its arrays are mapped, and an image's rows are slices of them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.fingerprints import fingerprint_of
from unimo_paddle.data.images import Regions
from unimo_paddle.data.regions.layout import (
    FORMAT,
    MANIFEST_NAME,
    NAMES_NAME,
    OF_REGIONS,
    OPTIONAL,
    VERSION,
)
from unimo_paddle.errors import UserError

_NEEDED = ("num_images", "num_regions", "has_background", "files", "key")
_REMEDY = "import it again with tools/prepare_data.py regions"


class RegionStore:
    """The regions of many images by the images' names; nothing is read before it is asked for.

    Safe to use from several threads and processes: files are mapped and never written to.

    Args:
        path: the folder that ``tools/prepare_data.py regions`` or ``extract`` wrote.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)
        _check_sizes(self.path, self.manifest)
        counts = self.manifest["num_images"], self.manifest["num_regions"]
        self.arrays = map_arrays(self.path, *counts)
        self._ids, self._order = self.arrays["ids"], self.arrays["order"]

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, image_id: str) -> bool:
        return self.index_of(image_id) is not None

    def __getitem__(self, image_id: str) -> Regions:
        index = self.index_of(image_id)
        if index is None:
            raise KeyError(image_id)
        return self.regions(index)

    @property
    def feature_size(self) -> int:
        """Numbers in a region's feature."""
        return self.arrays["features"].shape[1]

    @property
    def num_classes(self) -> int:
        """Classes of the detector's distributions; 0 where the store has none."""
        found = self.arrays.get("class_probabilities")
        return 0 if found is None else found.shape[1]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes by number; empty where they are not known."""
        path = self.path / NAMES_NAME
        return tuple(json.loads(path.read_text("utf-8"))) if path.is_file() else ()

    def index_of(self, image_id: str) -> int | None:
        """The number of an image, in the order of the source; None where it is not here."""
        key = image_id.encode("utf-8", "replace")
        if len(key) > self._ids.dtype.itemsize:
            return None
        place = int(np.searchsorted(self._ids, np.array(key, self._ids.dtype)))
        if place == len(self._ids) or self._ids[place] != key:
            return None
        return int(self._order[place])

    def image_ids(self) -> list[str]:
        """The names of all images by number."""
        names = np.empty(len(self), object)
        names[self._order] = self._ids
        return [name.decode() for name in names]

    def regions(self, index: int) -> Regions:
        """The regions of an image; its arrays are slices of the mapped files, read-only."""
        rows = self.rows(index)
        width, height = self.arrays["sizes"][index].tolist()
        probabilities = self.arrays.get("class_probabilities")
        return Regions(
            features=self.arrays["features"][rows],
            boxes=self.arrays["boxes"][rows],
            width=width,
            height=height,
            class_probabilities=None if probabilities is None else probabilities[rows],
        )

    def rows(self, index: int) -> slice:
        """Where the regions of an image stand in the arrays."""
        start, stop = self.arrays["offsets"][index : index + 2].tolist()
        return slice(start, stop)

    def classes(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """What the thing in each box is [n], and how sure the detector was of it [n].

        Things are numbered from 0, without the background; -1 is unknown. They are those that the
        detector named, else the likeliest of its distributions; None where the store has neither.
        Where it was never said how sure the detector was, it is 1.
        """
        rows = self.rows(index)
        if "classes" in self.arrays:
            classes = np.asarray(self.arrays["classes"][rows])
            given = self.arrays.get("confidences")
            ones = np.ones(len(classes), np.float32)
            return classes, ones if given is None else given[rows].astype(np.float32)
        if not self.num_classes:
            return None
        first = int(self.manifest["has_background"])
        probabilities = self.arrays["class_probabilities"][rows, first:].astype(np.float32)
        return probabilities.argmax(axis=1), probabilities.max(axis=1)

    def tags(self, index: int) -> list[str]:
        """Names of the things in the boxes of an image, none twice, the surest first.

        Empty where the store does not know names.
        """
        found = self.classes(index)
        if found is None or not self.class_names:
            return []
        order = np.argsort(-found[1], kind="stable")
        known = [c for c in found[0][order].tolist() if 0 <= c < len(self.class_names)]
        return list(dict.fromkeys(self.class_names[number] for number in known))

    def id_of(self, index: int) -> str:
        """The name of an image by its number; looks through all of them."""
        return self._ids[int(np.argmax(self._order == index))].decode()

    def entry(self, index: int) -> RegionEntry:
        """An image of the store, to be read later."""
        return RegionEntry(self, index)

    def verify(self) -> None:
        """Compare every file with the checksum that was taken when it was written."""
        for name, expected in self.manifest["files"].items():
            if fingerprint_of(self.path / name) != expected["sha256"]:
                raise UserError(f"{self.path / name} has changed since it was written; {_REMEDY}")


@dataclass(frozen=True, slots=True)
class RegionEntry:
    """An image of a store, read when it is needed."""

    store: RegionStore
    index: int

    @property
    def where(self) -> str:
        """The store and the image, for messages."""
        return f"{self.store.path}: image {self.store.id_of(self.index)}"

    def load(self) -> Regions:
        """The regions."""
        return self.store.regions(self.index)

    def tags(self) -> list[str]:
        """Names of the things in the boxes, the surest first."""
        return self.store.tags(self.index)


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST_NAME
    try:
        manifest = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"{path} is no store of regions: {MANIFEST_NAME} cannot be read "
            f"({error.strerror}); make one with tools/prepare_data.py regions"
        ) from None
    except ValueError:
        raise UserError(f"{file} is no JSON; {_REMEDY}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{file} is no manifest of a store of regions; {_REMEDY}")
    if manifest.get("version") != VERSION:
        found = manifest.get("version")
        raise UserError(f"{path} has version {found} of the format, not {VERSION}; {_REMEDY}")
    missing = [key for key in _NEEDED if key not in manifest]
    if missing:
        raise UserError(f"{file} has no {missing[0]}; {_REMEDY}")
    files = manifest["files"]
    entries = files.values() if isinstance(files, dict) else [None]
    if not all(isinstance(e, dict) and {"bytes", "sha256"} <= e.keys() for e in entries):
        raise UserError(f"{file} does not list files with their sizes and checksums; {_REMEDY}")
    return manifest


def map_arrays(path: Path, num_images: int, num_regions: int) -> dict[str, np.ndarray]:
    """Map the arrays of a folder that holds so many images and regions."""
    expected = dict.fromkeys(("ids", "order", "sizes"), num_images)
    expected |= {"offsets": num_images + 1} | dict.fromkeys(OF_REGIONS, num_regions)
    arrays = {}
    for name, rows in expected.items():
        file = path / f"{name}.npy"
        if name in OPTIONAL and not file.exists():
            continue
        try:
            # A plain view of the map: slices of it cost less, and nothing is ever written.
            array = np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray)
            found = len(array)
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}; {_REMEDY}") from None
        # An archive of arrays has no view, and a single number no length.
        except (ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile):
            raise UserError(f"{file} is no array; {_REMEDY}") from None
        if found != rows:
            raise UserError(f"{file} has {found} rows, not {rows}; {_REMEDY}")
        arrays[name] = array
    return arrays


def _check_sizes(path: Path, manifest: dict[str, Any]) -> None:
    """Compare the sizes of all files with those that were written."""
    for name, written in manifest["files"].items():
        file = path / name
        try:
            size = file.stat().st_size
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}; {_REMEDY}") from None
        if size != written["bytes"]:
            raise UserError(
                f"{file} has {size} bytes, but {written['bytes']} were written; {_REMEDY}"
            )
