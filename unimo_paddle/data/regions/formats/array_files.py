"""A folder with an .npz or .npy file an image.

.npz as UNITER keeps them (norm_bb, features, conf, soft_labels, in half precision), or as
extractors of bottom-up attention write them (x, bbox, num_bbox, image_w, image_h); .npy as that of
ViLBERT writes them, a pickled record. An image is named by its file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.formats.mappings import NAMES, image_of
from unimo_paddle.data.regions.formats.options import SourceOptions
from unimo_paddle.data.regions.formats.safe_pickle import load_pickle
from unimo_paddle.data.regions.importing import Item, RegionSource
from unimo_paddle.data.regions.layout import ImageRegions
from unimo_paddle.errors import UserError

SUFFIXES = (".npz", ".npy")
ZIP = b"PK"  # how .npz files begin
_KNOWN = {name for names in NAMES.values() for name in names}


def open_arrays(paths: Sequence[Path], options: SourceOptions) -> RegionSource:
    """All .npz and .npy files in folders and below them, or single files."""
    files = [file for path in paths for file in _files_of(path)]
    counts = read_counts(options.counts)

    def items() -> Iterator[Item]:
        for file in files:
            count = counts.get(file.name) if counts else None
            yield Item(str(file), partial(_load, file, options, count))

    read = [*files, *([options.counts] if options.counts else [])]
    return RegionSource(read, items, len(files), "image")


def read_counts(path: Path | None) -> Mapping[str, int]:
    """UNITER's nbb_*.json: how many regions of each image are used, by the name of its file."""
    if path is None:
        return {}
    try:
        counts = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--counts {path} cannot be read as JSON: {str(error)[:80]}") from None
    if not isinstance(counts, dict) or not all(
        isinstance(count, int) and count > 0 for count in counts.values()
    ):
        raise UserError(f"--counts {path} is no JSON object of names with whole numbers above 0")
    return counts


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    if not files:
        raise UserError(f"{path} holds no {' or '.join(SUFFIXES)} file; check the folder")
    return files


def _load(file: Path, options: SourceOptions, count: int | None) -> ImageRegions:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Fault(f"cannot be read: {error.strerror}") from None
    record = read_npz(data) if file.suffix == ".npz" else _read_npy(data)
    return image_of(record, options.name(file.stem), count=count)


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that are regions; pickled ones beside them are not touched."""
    if not data.startswith(ZIP):
        raise Fault(f"is no .npz file of arrays; it begins with {data[:8]!r}")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if name in _KNOWN}
    except Exception as error:  # a damaged one can raise anything, a MemoryError at once too
        raise Fault(f"is no .npz file of arrays ({_reason(error)})") from None


def _read_npy(data: bytes) -> Mapping[str, Any]:
    """The record that an .npy file of objects holds."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    except Exception as error:  # the header is parsed as Python, and damage of it raises anything
        raise Fault(f"is no .npy file ({_reason(error)})") from None
    if not dtype.hasobject or shape != ():
        raise Fault(f"holds an array of type {dtype} and shape {list(shape)}, not a record")
    array = load_pickle(data[file.tell() :], "it")
    record = array.item() if isinstance(array, np.ndarray) and array.shape == () else array
    if not isinstance(record, Mapping):
        raise Fault(f"holds a {type(record).__name__}, not a record")
    return record


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
