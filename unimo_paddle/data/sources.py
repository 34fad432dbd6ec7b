"""Records from files: image-text pairs, plain text, image folders.

A record that cannot be used is left out, named in ``Source.rejected`` and logged; more of them
than the cap, a file that cannot be read at all or one without any usable record is a UserError.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np

from unimo_paddle.data.images import Regions
from unimo_paddle.errors import BadSample, UserError

logger = logging.getLogger(__name__)

Record = TypeVar("Record")

MAX_TEXT_BYTES = 10**6  # of one caption or paragraph
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# Below this many rejected records a source is never refused, however small it is.
TOLERATED_RECORDS = 10


@dataclass(frozen=True)
class PairRecord:
    """One image with its captions.

    Args:
        image: absolute path of the image file.
        captions: at least one, none empty.
        regions: a detector's output for the image.
        tags: names of objects in the image.
        graph: scene graph as it stands in the file.
        group: number of the image; records of the same file share it.
    """

    image: Path
    captions: tuple[str, ...]
    regions: Regions | None = None
    tags: tuple[str, ...] | None = None
    graph: dict[str, Any] | None = None
    group: int = field(kw_only=True)


@dataclass(frozen=True)
class Source(Sequence[Record], Generic[Record]):
    """The usable records of a file or folder, indexed as a list, and what was left out."""

    records: list[Record]
    rejected: tuple[BadSample, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self.records[index]


def read_pairs(path: Path | str, *, bad_record_limit: float = 0.01) -> Source[PairRecord]:
    """Read image-text pairs from a file of JSON lines.

    A line is ``{"image": path, "captions": [text, ...]}`` with optional ``tags`` (list of text),
    ``graph`` (object) and ``regions`` (``features`` and ``class_probabilities`` as nested lists or
    base64 of little-endian float32, ``boxes`` in pixels, ``width``, ``height``). Image paths are
    relative to the file's folder and stay inside it. Other keys are left alone.

    Args:
        bad_record_limit: share of the lines that may be rejected (at least 10 may).
    """
    path = Path(path)
    folder = _Folder(path.parent)
    groups: dict[Path, int] = {}

    def parse(line: str) -> PairRecord:
        record = _parse_object(line)
        image = folder.find(_text(record, "image"))
        return PairRecord(
            image=image,
            captions=_texts(record, "captions", required=True),
            regions=_parse_regions(record["regions"]) if record.get("regions") else None,
            tags=_texts(record, "tags") or None,
            graph=_parse_graph(record.get("graph")),
            group=groups.setdefault(image, len(groups)),
        )

    return _gather(path, _read_lines(path), parse, bad_record_limit=bad_record_limit)


def read_texts(
    paths: Path | str | Iterable[Path | str],
    *,
    unit: str = "line",
    min_words: int = 1,
    bad_record_limit: float = 0.01,
) -> Source[str]:
    """Read plain text from UTF-8 files.

    Args:
        unit: "line": each line is a record; "paragraph": lines up to an empty line are joined.
        min_words: shorter records (headings, empty lines) are passed over, which is no fault.
        bad_record_limit: share of a file's lines that may be rejected (at least 10 may).
    """
    if unit not in ("line", "paragraph"):
        raise UserError(f"unit {unit!r} of a text source is unknown; choose line or paragraph")
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    records: list[str] = []
    rejected: list[BadSample] = []
    for path in map(Path, paths):
        source = _gather(path, _read_lines(path), _parse_text, bad_record_limit=bad_record_limit)
        rejected.extend(source.rejected)
        texts = source.records if unit == "line" else _join_paragraphs(source.records)
        records.extend(text for text in texts if len(text.split()) >= max(1, min_words))
    if not records:
        raise UserError(
            f"text source {', '.join(map(str, paths)) or '(no file)'} holds no {unit} of at least "
            f"{min_words} words"
        )
    return Source(records, tuple(rejected))


def read_images(folder: Path | str) -> Source[Path]:
    """List the image files in a folder and its subfolders, in order of their names."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"image folder {folder} does not exist; check the path")
    inside = _Folder(folder)
    names = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
    )
    if not names:
        raise UserError(f"image folder {folder} holds no {', '.join(IMAGE_SUFFIXES)} file")
    return _gather(folder, ((name, name) for name in names), inside.find, bad_record_limit=0.01)


class _Folder:
    """A folder that paths must stay inside, links followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = os.path.realpath(folder)
        # Resolving each parent once spares several system calls a record.
        self._parents: dict[str, str] = {}

    def find(self, name: str) -> Path:
        """Resolve a relative path to an existing file inside the folder."""
        if "\0" in name or os.path.isabs(name) or ".." in Path(name).parts:
            raise _Fault(f"path {name!r} must be relative and stay inside the folder")
        parent, base = os.path.split(os.path.join(self._root, name))
        if parent not in self._parents:
            self._parents[parent] = os.path.realpath(parent)
        path = os.path.join(self._parents[parent], base)
        if os.path.islink(path):
            path = os.path.realpath(path)
        if not path.startswith(self._root.rstrip(os.sep) + os.sep):
            raise _Fault(f"path {name!r} leads out of the folder through a link")
        if not os.path.isfile(path):
            raise _Fault(f"file {name!r} does not exist in {self._folder}")
        return Path(path)


class _Fault(Exception):
    """What is wrong with a record; the caller knows where it stands."""


def _gather(
    path: Path,
    items: Iterable[tuple[str, str | _Fault]],
    parse: Callable[[str], Record],
    *,
    bad_record_limit: float,
) -> Source[Record]:
    """Parse named items (``where`` and text) and apply the cap on what is rejected."""
    records, rejected = [], []
    for where, item in items:
        try:
            if isinstance(item, _Fault):
                raise item
            records.append(parse(item))
        except _Fault as fault:
            rejected.append(BadSample(where, str(fault)))
    total = len(records) + len(rejected)
    for bad in rejected[:TOLERATED_RECORDS]:
        logger.warning("skipped %s", bad)
    if rejected and (
        not records or len(rejected) > max(TOLERATED_RECORDS, bad_record_limit * total)
    ):
        raise UserError(
            f"{path}: {len(rejected)} of {total} records cannot be used, first {rejected[0]}; "
            "mend the file"
        )
    if not total:
        raise UserError(f"{path} holds no records")
    if rejected:
        logger.warning("%s: skipped %d of %d records", path, len(rejected), total)
    return Source(records, tuple(rejected))


def _read_lines(path: Path) -> Iterator[tuple[str, str | _Fault]]:
    """Lines of a UTF-8 file with their place; a line that is not UTF-8 comes as a fault."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                where = f"{path}:{number}"
                try:
                    yield where, raw.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError:
                    yield where, _Fault("line is not UTF-8 text")
    except OSError as error:
        raise UserError(
            f"data file {path} cannot be read: {error.strerror}; check the path"
        ) from None


def _parse_text(line: str) -> str:
    if len(line) > MAX_TEXT_BYTES:
        raise _Fault(f"line of {len(line)} characters exceeds {MAX_TEXT_BYTES}")
    return line.strip()


def _join_paragraphs(lines: Sequence[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line:
            paragraph.append(line)
        elif paragraph:
            yield " ".join(paragraph)
            paragraph = []


def _parse_object(line: str) -> dict[str, Any]:
    if not line.strip():
        raise _Fault("line is empty")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise _Fault(f"line is not JSON: {line[:40]!r}") from None
    if not isinstance(record, dict):
        raise _Fault(f"line is not a JSON object: {line[:40]!r}")
    return record


def _text(record: dict[str, Any], key: str) -> str:
    if key not in record:
        raise _Fault(f"key '{key}' is missing; found {', '.join(sorted(record)) or 'none'}")
    return _check_text(record[key], key)


def _texts(record: dict[str, Any], key: str, *, required: bool = False) -> tuple[str, ...]:
    if key not in record and required:
        raise _Fault(f"key '{key}' is missing; found {', '.join(sorted(record)) or 'none'}")
    texts = record.get(key) or []
    if not isinstance(texts, list):
        raise _Fault(f"'{key}' must be a list of texts, not {str(texts)[:40]!r}")
    if required and not texts:
        raise _Fault(f"'{key}' is empty")
    return tuple(_check_text(text, f"{key}[{number}]") for number, text in enumerate(texts))


def _check_text(text: Any, name: str) -> str:
    if not isinstance(text, str):
        raise _Fault(f"'{name}' must be text, not {str(text)[:40]!r}")
    if not text.strip():
        raise _Fault(f"'{name}' is empty")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:  # JSON escapes can write half of a surrogate pair
        raise _Fault(f"'{name}' is not valid Unicode") from None
    if size > MAX_TEXT_BYTES:
        raise _Fault(f"'{name}' of {size} bytes exceeds {MAX_TEXT_BYTES}")
    return text.strip()


def _parse_graph(graph: Any) -> dict[str, Any] | None:
    if graph is not None and not isinstance(graph, dict):
        raise _Fault(f"'graph' must be an object, not {str(graph)[:40]!r}")
    return graph


def _parse_regions(regions: Any) -> Regions:
    if not isinstance(regions, dict):
        raise _Fault(f"'regions' must be an object, not {str(regions)[:40]!r}")
    missing = {"features", "boxes", "width", "height"} - regions.keys()
    if missing:
        raise _Fault(f"'regions' lacks {', '.join(sorted(missing))}")
    for key in ("width", "height"):
        if isinstance(regions[key], bool) or not isinstance(regions[key], (int, float)):
            raise _Fault(f"'regions.{key}' must be a number, not {str(regions[key])[:40]!r}")
    boxes = _parse_array(regions["boxes"], "boxes", num_rows=None)
    probabilities = regions.get("class_probabilities")
    return Regions(
        features=_parse_array(regions["features"], "features", num_rows=len(boxes)),
        boxes=boxes,
        width=regions["width"],
        height=regions["height"],
        class_probabilities=None
        if probabilities is None
        else _parse_array(probabilities, "class_probabilities", num_rows=len(boxes)),
    )


def _parse_array(value: Any, key: str, *, num_rows: int | None) -> np.ndarray:
    """Nested lists, or base64 of little-endian float32 split into ``num_rows`` rows (4 a box)."""
    if isinstance(value, list):
        try:
            return np.asarray(value, np.float32)
        except (ValueError, TypeError, OverflowError):
            raise _Fault(f"'regions.{key}' is not a table of numbers") from None
    if not isinstance(value, str):
        raise _Fault(f"'regions.{key}' must be nested lists or base64 text")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _Fault(f"'regions.{key}' is not base64") from None
    row_size = 16 if num_rows is None else 4
    num_rows = len(data) // row_size if num_rows is None else num_rows
    if not num_rows or len(data) % (4 * num_rows):
        raise _Fault(f"'regions.{key}' of {len(data)} bytes does not fill {num_rows} rows")
    return np.frombuffer(data, "<f4").reshape(num_rows, -1)
