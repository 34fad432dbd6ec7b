"""How many of the images that a file of records names a store has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unimo_paddle.data.records import gather, parse_object, read_lines
from unimo_paddle.data.regions.lookup import names_of
from unimo_paddle.data.regions.store import RegionStore

NUM_NAMED = 20  # missing images that are named


@dataclass(frozen=True)
class Coverage:
    """What a store has of the images of files.

    Args:
        files: of records, JSON lines with ``image`` or ``image_id``.
        num_images: that they name.
        found: numbers of those in the store, in the order of the files.
        missing: names of those that are not there.
    """

    files: Sequence[Path]
    num_images: int
    found: Sequence[int]
    missing: Sequence[str]

    def as_json(self) -> dict:
        """For the manifest: counts, and the first missing."""
        return {
            "files": [path.name for path in self.files],
            "images": self.num_images,
            "missing": len(self.missing),
            "first_missing": list(self.missing[:NUM_NAMED]),
        }

    def summary(self) -> str:
        """The counts in one line."""
        text = f"{len(self.found)} of {self.num_images} images of the records are in the store"
        return f"{text}; missing are {', '.join(self.missing[:3])}" if self.missing else text


def measure_coverage(
    store: RegionStore, files: Sequence[Path], *, bad_record_limit: float = 0.01
) -> Coverage:
    """Look for the images of all records; a record that names none is a bad one."""
    names: dict[str, list[str]] = {}
    for path in files:
        lines = gather(
            path,
            read_lines(path),
            lambda line: names_of(parse_object(line)),
            bad_record_limit=bad_record_limit,
        )
        for name, ids in lines:
            names.setdefault(name, ids)
    found, missing = [], []
    for name, ids in names.items():
        indices = (store.index_of(image_id) for image_id in ids)
        index = next((index for index in indices if index is not None), None)
        if index is None:
            missing.append(name)
        else:
            found.append(index)
    return Coverage(files, len(names), found, missing)
