"""VinVL's and Oscar's TSV files, whose lines are an image's name and JSON or base64 of float32.

    features.tsv         name, number of boxes, features; beside it predictions.tsv
    train.feature.tsv    name, JSON with num_boxes and features; beside it train.label.tsv with
                         classes and boxes, and perhaps train.hw.tsv with sizes
    predictions.tsv      name, JSON with objects, each with rect, class, conf and feature

VinVL puts a region's place behind its feature: x1 y1 x2 y2 w h as shares. Such columns are taken
off, and are its box where no file beside tells it in pixels.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.original_regions import decode_rows, whole_number
from unimo_paddle.data.records import Fault, raw_lines, split_line
from unimo_paddle.data.regions.formats.lines import total_size
from unimo_paddle.data.regions.formats.options import SourceOptions
from unimo_paddle.data.regions.importing import Item, RegionSource
from unimo_paddle.data.regions.layout import SHARES, ImageRegions
from unimo_paddle.errors import UserError

PLACE_SIZE = 6  # numbers of a region's place behind its feature
PLACE_TOLERANCE = 1e-3
FEATURES_NAME, PREDICTIONS_NAME, FEATURE_SUFFIX = "features.tsv", "predictions.tsv", ".feature.tsv"


def open_vinvl(paths: Sequence[Path], options: SourceOptions) -> RegionSource:
    """Feature files, with what lies beside each; or folders with such files."""
    files = [file for path in paths for file in _files_of(path)]
    beside = {file: _files_beside(file) for file in files}

    def items() -> Iterator[Item]:
        for file in files:
            lines = map(raw_lines, (file, *beside[file]))
            for (where, line), *others in itertools.zip_longest(*lines, fillvalue=("", b"")):
                texts = [text for _, text in others]
                if not where:  # the features may have been cut off
                    where = next(place for place, _ in others if place)
                yield Item(where, partial(_parse, line, texts, options), len(line))

    known = [*files, *itertools.chain.from_iterable(beside.values())]
    return RegionSource(known, items, total_size(files), "B")


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    features = sorted([*path.rglob(FEATURES_NAME), *path.rglob(f"*{FEATURE_SUFFIX}")])
    found = features or sorted(path.rglob(PREDICTIONS_NAME))
    if not found:
        raise UserError(
            f"{path} holds no {FEATURES_NAME}, *{FEATURE_SUFFIX} or {PREDICTIONS_NAME}; name the "
            "file itself"
        )
    return found


def _files_beside(file: Path) -> list[Path]:
    """Files with classes, boxes and sizes of the same images in the same order."""
    if file.name.endswith(FEATURE_SUFFIX):
        stem = file.name.removesuffix(FEATURE_SUFFIX)
        names = [f"{stem}.label.tsv", f"{stem}.hw.tsv"]
    else:
        names = [PREDICTIONS_NAME] if file.name == FEATURES_NAME else []
    return [path for path in (file.with_name(name) for name in names) if path.is_file()]


def _parse(line: bytes, beside: Sequence[bytes], options: SourceOptions) -> ImageRegions:
    if not line:
        raise Fault("there are no features for it in the file beside, which ends before")
    columns = split_line(line, "\t")
    known = _Known(columns[0].strip())
    for text in beside:
        known.add(text)
    if len(columns) >= 3:
        count = whole_number(columns[1], "number of boxes")
        known.features = decode_rows(columns[-1], "features", count)
    elif len(columns) == 2:
        known.add_json(_json(columns[1]))
    else:
        raise Fault(f"{len(columns)} column, expected a name and JSON, or name, number, features")
    return known.image(options)


class _Known:
    """What the lines of an image in all files tell of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.features: np.ndarray | None = None
        self.objects: list[dict[str, Any]] | None = None
        self.size: tuple[float, float] | None = None

    def add(self, line: bytes) -> None:
        """Add the line of a file beside."""
        columns = split_line(line, "\t")
        if len(columns) != 2 or columns[0].strip() != self.name:
            raise Fault(
                f"line of the file beside is of {columns[0][:40]!r}, not of {self.name!r}; both "
                "must hold the same images in the same order"
            )
        self.add_json(_json(columns[1]))

    def add_json(self, value: Any) -> None:
        """Add features, objects or a size; which, is told by the keys."""
        if isinstance(value, list):
            is_size = len(value) == 1 and isinstance(value[0], dict) and "height" in value[0]
            value = value[0] if is_size else {"objects": value}
        if not isinstance(value, dict):
            raise Fault(f"JSON is a {type(value).__name__}, not an object or a list")
        self._add_size(value)
        if isinstance(value.get("features"), str):
            count = _whole(value.get("num_boxes"), "num_boxes")
            self.features = decode_rows(value["features"], "features", count)
        if isinstance(value.get("objects"), list):
            self._add_objects(value["objects"])

    def _add_size(self, value: dict[str, Any]) -> None:
        for names in (("width", "height"), ("image_w", "image_h")):
            if all(name in value for name in names):
                self.size = tuple(float(_whole(value[name], name)) for name in names)

    def _add_objects(self, objects: list[Any]) -> None:
        if not all(isinstance(item, dict) for item in objects):
            raise Fault("objects are no list of JSON objects")
        if objects and all("feature" in item for item in objects):
            rows = [decode_rows(item["feature"], "feature", 1) for item in objects]
            if len({row.size for row in rows}) > 1:
                raise Fault("features of the objects differ in size")
            self.features = np.concatenate(rows)
        self.objects = objects if all("rect" in item for item in objects) else self.objects

    def image(self, options: SourceOptions) -> ImageRegions:
        """The regions; a ``Fault`` says what is not known."""
        if self.features is None:
            raise Fault("features are missing")
        features, places = split_places(self.features)
        boxes, size, classes, confidences = places, SHARES, None, None
        if self.objects is not None:
            if len(self.objects) != len(features):
                raise Fault(f"{len(self.objects)} objects for {len(features)} features")
            if self.size is not None:
                boxes, size = _boxes_of(self.objects), self.size
            classes, confidences = _classes_of(self.objects)
        if boxes is None:
            raise Fault(
                "boxes with the size of the image are missing; put the file with them "
                "(label.tsv with hw.tsv, or predictions.tsv) beside that of the features"
            )
        return ImageRegions(
            image_id=options.name(self.name),
            features=features,
            boxes=boxes,
            width=size[0],
            height=size[1],
            classes=classes,
            confidences=confidences,
        )


def split_places(features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Features without the places behind them, and these as boxes in shares; None without."""
    places = features[:, -PLACE_SIZE:]
    if features.shape[1] <= PLACE_SIZE:
        return features, None
    extents = places[:, 2:4] - places[:, :2]
    is_place = (
        np.abs(extents - places[:, 4:]).max() <= PLACE_TOLERANCE
        and places.min() >= -PLACE_TOLERANCE
        and places.max() <= 1 + PLACE_TOLERANCE
    )
    return (features[:, :-PLACE_SIZE], places[:, :4]) if is_place else (features, None)


def _boxes_of(objects: list[dict[str, Any]]) -> np.ndarray:
    try:
        return np.array([item["rect"] for item in objects], np.float32)
    except (TypeError, ValueError, OverflowError):
        raise Fault("rect of an object is no list of four numbers") from None


def _classes_of(
    objects: list[dict[str, Any]],
) -> tuple[list[str] | None, np.ndarray | None]:
    names = [item.get("class") for item in objects]
    if not all(isinstance(name, str) and name for name in names):
        return None, None
    try:
        return names, np.array([item.get("conf", 1.0) for item in objects], np.float32)
    except (TypeError, ValueError, OverflowError):
        raise Fault("conf of an object is no number") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Fault(f"column is not JSON: {text[:40]!r}") from None


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Fault(f"{what} is {str(value)[:40]!r}; it must be a whole number above 0")
    return value
