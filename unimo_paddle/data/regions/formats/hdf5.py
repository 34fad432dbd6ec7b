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
from unimo_paddle.data.regions.formats.mappings import NAMES, image_of
from unimo_paddle.data.regions.formats.options import SourceOptions
from unimo_paddle.data.regions.formats.safe_pickle import load_pickle
from unimo_paddle.data.regions.importing import Item, RegionSource
from unimo_paddle.data.regions.layout import ImageRegions
from unimo_paddle.errors import UserError

_IDS = ("image_ids", "image_id")
_OF_IMAGES = [name for names in NAMES.values() for name in names]
Load = Callable[[], ImageRegions]


def open_h5(paths: Sequence[Path], options: SourceOptions) -> RegionSource:
    """All images of files, each of any of the layouts."""
    records = [record for path in paths for record in _records_of(path, options)]

    def items() -> Iterator[Item]:
        yield from (Item(where, load) for where, load in records)

    files = [*paths, *([options.index] if options.index else [])]
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
            return _table_records(path, file, file[ids][()], options)
    groups = [name for name in file if isinstance(file[name], h5py.Group)]
    if not groups:
        raise UserError(
            f"{path} has {', '.join(file)[:80] or 'nothing'}; known are image_features with "
            "image_bb, image_ids with features, and a group an image"
        )
    return [
        (f"{path}: {name}", partial(_load_group, file[name], options.name(name))) for name in groups
    ]


def _load_group(group: h5py.Group, image_id: str) -> ImageRegions:
    record: dict[str, Any] = dict(group.attrs)
    record |= {name: _read(group, name, ()) for name in group if name in _OF_IMAGES}
    return image_of(record, image_id)


def _read(group: h5py.Group, name: str, place: Any) -> Any:
    try:
        return group[name][place]
    except (OSError, ValueError, IndexError) as error:
        raise Fault(f"{name} cannot be read ({str(error)[:80]})") from None


# ---- ViLBERT's tables


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
    places = _read_index(path, options.index)
    return [
        (f"{path}: {name}", partial(_load_vqa, file, place, options.name(name)))
        for name, place in places.items()
    ]


def _read_index(path: Path, index: Path | None) -> dict[str, int]:
    """Rows of the tables by the names of the images, from the file beside them."""
    index = index or path.with_name(f"{path.stem}_imgid2idx.pkl")
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
        start, stop = _read(file, "pos_boxes", place).tolist()
        rows = slice(int(start), int(stop))
    boxes = np.asarray(_read(file, "image_bb", rows), np.float32)
    shares = np.asarray(_read(file, "spatial_features", rows), np.float64)
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
