"""What tests of all formats do: import, and compare with what was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.data.regions.samples import CLASS_NAMES, Detected, lxmert_line, write_lines
from unimo_paddle.data.regions import RegionStore
from unimo_paddle.data.regions.formats import SourceOptions, open_source
from unimo_paddle.data.regions.importing import import_regions, read_names


def import_from(
    name: str, *paths: Path, names: Path | None = None, output: Path | None = None, **options
) -> RegionStore:
    """The store that the command ``regions`` makes of the paths."""
    chosen = SourceOptions(**options)
    known = read_names(names) if names else ()
    source = open_source(name, paths, chosen, names=known)
    output = output or paths[0].parent / "store"
    return import_regions(source, output, options={"format": name, **chosen.as_json()})


def import_named(
    folder: Path, found: Sequence[Detected], names: Sequence[str] = CLASS_NAMES
) -> RegionStore:
    """A store that knows what the things in the boxes are called."""
    path = write_lines(folder / "features.tsv", [lxmert_line(item) for item in found])
    return import_from("tsv", path, names=write_lines(folder / "names.txt", list(names)))


def check_same(store: RegionStore, found: Detected, image_id: str | None = None) -> None:
    """Compare an image: features exact to half precision, boxes and sizes exact."""
    regions = store[image_id or found.image_id]
    np.testing.assert_array_equal(regions.features, found.features.astype(np.float16))
    np.testing.assert_array_equal(regions.boxes, found.boxes)
    assert (regions.width, regions.height) == (found.width, found.height)
