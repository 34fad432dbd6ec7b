"""The formats by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from unimo_paddle.data.regions.formats.array_files import open_arrays
from unimo_paddle.data.regions.formats.databases import open_lmdb
from unimo_paddle.data.regions.formats.hdf5 import open_h5
from unimo_paddle.data.regions.formats.lines import open_original, open_tsv
from unimo_paddle.data.regions.formats.options import SourceOptions
from unimo_paddle.data.regions.formats.vinvl import open_vinvl
from unimo_paddle.data.regions.importing import RegionSource
from unimo_paddle.errors import UserError

FORMATS: dict[str, Callable[[Sequence[Path], SourceOptions], RegionSource]] = {
    "tsv": open_tsv,
    "original": open_original,
    "vinvl": open_vinvl,
    "npz": open_arrays,
    "h5": open_h5,
    "lmdb": open_lmdb,
}


def open_source(
    name: str, paths: Sequence[Path], options: SourceOptions, *, names: Sequence[str] = ()
) -> RegionSource:
    """Begin to read files or folders of a format.

    Args:
        names: what the classes are, where the source has numbers.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise UserError(f"{missing[0]} does not exist; check the path")
    source = FORMATS[name](paths, options)
    return replace(source, names=tuple(names))
