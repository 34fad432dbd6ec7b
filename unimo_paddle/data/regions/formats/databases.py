"""LMDB databases with a record an image: UNITER's and ViLBERT's.

UNITER keeps the list of names under ``__keys__`` as JSON, and records as msgpack with arrays of
NumPy or as compressed .npz; ViLBERT keeps it under ``keys``, pickled, and records as pickles of
what its TSV or its extractor gave.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import msgpack
import numpy as np

from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.formats.array_files import ZIP, read_counts, read_npz
from unimo_paddle.data.regions.formats.mappings import image_of
from unimo_paddle.data.regions.formats.options import SourceOptions
from unimo_paddle.data.regions.formats.safe_pickle import load_pickle
from unimo_paddle.data.regions.importing import Item, RegionSource
from unimo_paddle.data.regions.layout import ImageRegions
from unimo_paddle.data.regions.lookup import without_suffix
from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

UNITER_KEYS, VILBERT_KEYS = b"__keys__", b"keys"
_DATA_NAME = "data.mdb"
_MSGPACK_MAPS = {bytes([first]) for first in (*range(0x81, 0x90), 0xDE, 0xDF)}


def open_lmdb(paths: Sequence[Path], options: SourceOptions) -> RegionSource:
    """All records of databases: folders with data.mdb, or single files."""
    databases = [(path, _open(path)) for path in paths]
    keys = [_read_keys(path, database) for path, database in databases]
    counts = read_counts(options.counts)

    def items() -> Iterator[Item]:
        for (path, database), known in zip(databases, keys, strict=True):
            for key in known:
                load = partial(_load, database, key, options, counts)
                yield Item(f"{path}: {key.decode('utf-8', 'replace')}", load)

    files = [*map(_file_of, paths), *([options.counts] if options.counts else [])]
    return RegionSource(files, items, sum(map(len, keys)), "image")


def _open(path: Path) -> lmdb.Environment:
    try:
        database = lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False
        )
    except lmdb.Error as error:
        raise UserError(
            f"{path} is no LMDB database ({str(error)[-80:]}); give the folder with {_DATA_NAME}"
        ) from None
    size = _file_of(path).stat().st_size
    counted = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
    if size < counted:  # what is not there is mapped; its last pages may never have been written
        logger.warning(
            "%s has %d bytes, but counts %d: if it was cut off, this ends with a bus error, and it "
            "must be fetched again",
            path,
            size,
            counted,
        )
    return database


def _file_of(path: Path) -> Path:
    return path / _DATA_NAME if path.is_dir() else path


def _read_keys(path: Path, database: lmdb.Environment) -> list[bytes]:
    """The keys of the records: as they are listed, or all that there are."""
    try:
        with database.begin(buffers=False) as transaction:
            listed, pickled = transaction.get(UNITER_KEYS), transaction.get(VILBERT_KEYS)
            if listed is None and pickled is None:
                return list(transaction.cursor().iternext(keys=True, values=False))
    except lmdb.Error as error:
        raise UserError(f"{path} cannot be read ({str(error)[-80:]}); fetch it again") from None
    try:
        keys = json.loads(listed) if listed else load_pickle(pickled, "its list of keys")
    except (ValueError, Fault) as error:
        raise UserError(f"{path}: list of keys: {str(error)[:120]}") from None
    if not isinstance(keys, list) or not all(isinstance(key, str | bytes) for key in keys):
        raise UserError(f"{path}: the list of keys is no list of names")
    return [key.encode("utf-8") if isinstance(key, str) else key for key in keys]


def _load(
    database: lmdb.Environment, key: bytes, options: SourceOptions, counts: Mapping[str, int]
) -> ImageRegions:
    try:
        with database.begin(buffers=False) as transaction:
            data = transaction.get(key)
    except lmdb.Error as error:
        raise Fault(f"cannot be read ({str(error)[-80:]})") from None
    if data is None:
        raise Fault("is listed but not there")
    name = key.decode("utf-8", "replace")
    record = _parse(data)
    image_id = without_suffix(name) if options.ids == "as_is" else options.name(name)
    return image_of(record, image_id, count=counts.get(name))


def _parse(data: bytes) -> Mapping[str, Any]:
    if data.startswith(ZIP):
        return read_npz(data)
    if data[:1] in _MSGPACK_MAPS:
        try:
            record = msgpack.unpackb(data, raw=False, object_hook=_array_of)
        except (ValueError, msgpack.UnpackException) as error:
            raise Fault(f"is no msgpack, .npz or pickle ({str(error)[:60]})") from None
    else:
        record = load_pickle(data, "it")
    if not isinstance(record, Mapping):
        raise Fault(f"holds a {type(record).__name__}, not a record")
    return record


def _array_of(item: dict[Any, Any]) -> Any:
    """An array as msgpack-numpy writes it; arrays of objects, which it pickles, are refused."""
    if b"nd" not in item:
        return item
    try:
        dtype = np.dtype(item[b"type"])
        if dtype.hasobject:
            raise Fault("holds an array of objects; only numbers may be read")
        array = np.frombuffer(item[b"data"], dtype)
        return array.reshape(item[b"shape"]) if item[b"nd"] else array[0]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise Fault(f"holds a damaged array ({str(error)[:60]})") from None
