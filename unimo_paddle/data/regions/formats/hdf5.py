"""HDF5 files: tables over all images, or a group an image.

The tables of the VQA program after bottom-up attention are image_features and image_bb, [N, n, ...]
or all regions in a row with pos_boxes [N, 2]; spatial_features tell the sizes of images, and
an own file (``*_imgid2idx.pkl``) their names. Those of ViLBERT are image_ids, features, boxes,
num_boxes, image_w and image_h. A group has an image's name, and its arrays inside.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.formats.mappings import NAMES, image_of, table_of
from unimo_paddle.data.regions.formats.options import SourceOptions
from unimo_paddle.data.regions.formats.safe_pickle import load_pickle
from unimo_paddle.data.regions.importing import Item, RegionSource
from unimo_paddle.data.regions.layout import ImageRegions
from unimo_paddle.errors import UserError

_IDS = ("image_ids", "image_id")
_OF_IMAGES = [name for names in NAMES.values() for name in names]
# What reading of a damaged file raises, or of a group where a table should be.
_DAMAGE = (OSError, ValueError, IndexError, KeyError, TypeError, RuntimeError)
Load = Callable[[], ImageRegions]


def open_h5(paths: Sequence[Path], options: SourceOptions) -> RegionSource:
    """All images of files, each of any of the layouts."""
    records = [record for path in paths for record in _records_of(path, options)]

    def items() -> Iterator[Item]:
        yield from (Item(where, load) for where, load in records)

    indices = dict.fromkeys(_index_of(path, options) for path in paths)
    files = [*paths, *(index for index in indices if index.is_file())]
    return RegionSource(files, items, len(records), "image")


def _records_of(path: Path, options: SourceOptions) -> list[tuple[str, Load]]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is no HDF5 file ({str(error)[:80]}); check it") from None
    if "image_features" in file:
        return _vqa_records(path, file, options)
    for ids in _IDS:
        if ids in file:
            return _table_records(path, file, _read_ids(path, file, ids), options)
    groups = [name for name in file if isinstance(file.get(name), h5py.Group)]
    if not groups:
        raise UserError(
            f"{path} has {', '.join(file)[:80] or 'nothing'}; known are image_features with "
            "image_bb, image_ids with features, and a group an image"
        )
    return [
        (f"{path}: {name}", partial(_load_group, file, name, options.name(name))) for name in groups
    ]


def _load_group(file: h5py.File, name: str, image_id: str) -> ImageRegions:
    try:
        group = file[name]
        record: dict[str, Any] = dict(group.attrs)
    except _DAMAGE as error:
        raise Fault(f"group cannot be read ({str(error)[:80]})") from None
    record |= {name: _read(group, name, ()) for name in group if name in _OF_IMAGES}
    return image_of(record, image_id)


def _read(group: h5py.Group, name: str, place: Any) -> Any:
    try:
        return group[name][place]
    except _DAMAGE as error:
        raise Fault(f"{name} cannot be read ({str(error)[:80]})") from None


# ---- ViLBERT's tables


def _read_ids(path: Path, file: h5py.File, name: str) -> np.ndarray:
    try:
        return np.asarray(_read(file, name, ())).reshape(-1)
    except Fault as fault:
        raise UserError(f"{path}: {fault}; fetch or write the file again") from None


def _table_records(
    path: Path, file: h5py.File, ids: np.ndarray, options: SourceOptions
) -> list[tuple[str, Load]]:
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in ids]
    return [
        (f"{path}: image {number}", partial(_load_row, file, number, options.name(name)))
        for number, name in enumerate(names)
    ]


def _load_row(file: h5py.File, number: int, image_id: str) -> ImageRegions:
    record = {name: _read(file, name, number) for name in file if name in _OF_IMAGES}
    return image_of(record, image_id)


# ---- the VQA program's tables


def _vqa_records(path: Path, file: h5py.File, options: SourceOptions) -> list[tuple[str, Load]]:
    for name in ("image_bb", "spatial_features"):
        if name not in file:
            raise UserError(
                f"{path} has image_features but no {name}, without which boxes and sizes of images "
                "are not known; import what it was made of"
            )
    places = _read_index(path, _index_of(path, options))
    return [
        (f"{path}: {name}", partial(_load_vqa, file, place, options.name(name)))
        for name, place in places.items()
    ]


def _index_of(path: Path, options: SourceOptions) -> Path:
    """The file of the images' names: the one that is given, or that beside the tables."""
    return options.index or path.with_name(f"{path.stem}_imgid2idx.pkl")


def _read_index(path: Path, index: Path) -> dict[str, int]:
    """Rows of the tables by the names of the images."""
    try:
        data = index.read_bytes()
        places = json.loads(data) if index.suffix == ".json" else load_pickle(data, "it")
    except OSError:
        raise UserError(
            f"{index} with the names of the images of {path} is not there; name it by --index"
        ) from None
    except (ValueError, Fault) as error:
        raise UserError(f"{index}: {str(error)[:160]}") from None
    if not isinstance(places, dict) or not all(
        isinstance(place, int) and place >= 0 for place in places.values()
    ):
        raise UserError(f"{index} does not map the names of images to their rows")
    return {str(name): place for name, place in places.items()}


def _load_vqa(file: h5py.File, place: int, image_id: str) -> ImageRegions:
    rows: Any = place
    if "pos_boxes" in file:
        try:
            start, stop = map(int, _read(file, "pos_boxes", place).tolist())
        except (TypeError, ValueError, OverflowError):
            raise Fault("pos_boxes do not tell where the boxes begin and end") from None
        rows = slice(start, stop)
    boxes = table_of(_read(file, "image_bb", rows), "image_bb").astype(np.float32)
    shares = table_of(_read(file, "spatial_features", rows), "spatial_features").astype(np.float64)
    if boxes.shape != (len(shares), 4) or shares.shape[1] < 4:
        raise Fault(
            f"boxes have shape {list(boxes.shape)} and spatial features {list(shares.shape)}"
        )
    width, height = (_side(boxes[:, side], shares[:, side], image_id) for side in (2, 3))
    return ImageRegions(image_id, _read(file, "image_features", rows), boxes, width, height)


def _side(ends: np.ndarray, shares: np.ndarray, image_id: str) -> float:
    """A side of the image in pixels, from where boxes end in pixels and in shares of it."""
    if not (shares > 0).all():
        raise Fault(f"spatial features of image {image_id} tell no size")
    return float(np.rint(np.median(ends / shares)))
