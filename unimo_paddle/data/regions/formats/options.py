"""What a user says of a source beside its format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimo_paddle.data.original_retrieval import SIZES
from unimo_paddle.data.regions.lookup import without_suffix

IDS = ("as_is", "stem", "number")
_LAST_NUMBER = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read.

    Args:
        ids: names of images as they stand, without folder and suffix, or the last number in them.
        size_columns: what columns 2 and 3 of the original's feature files are.
        index: file of the names of the images in an HDF5 file without them.
        counts: JSON file of how many regions of each image are used, as UNITER keeps them.
    """

    ids: str = "as_is"
    size_columns: tuple[str, str] = SIZES
    index: Path | None = None
    counts: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it, for the manifest."""
        files = {"index": self.index, "counts": self.counts}
        return {
            "ids": self.ids,
            "size_columns": list(self.size_columns),
            **{name: path.name for name, path in files.items() if path},
        }

    def name(self, found: str) -> str:
        """The name of an image in the store by what the source calls it."""
        if self.ids == "as_is":
            return found
        stem = without_suffix(found.rpartition("/")[2])
        number = _LAST_NUMBER.search(stem) if self.ids == "number" else None
        return str(int(number[1])) if number else stem
