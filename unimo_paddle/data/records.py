"""Reading of records: what cannot be used is left out, named and logged.

More bad records than the cap, a file that cannot be read at all or one without any usable record
is a UserError.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from unimo_paddle.data.shards import has_member, split_member
from unimo_paddle.errors import BadSample, UserError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Record = TypeVar("Record")

MAX_TEXT_BYTES = 10**6  # of one caption or paragraph
MAX_PATH_CHARACTERS = 4096  # the most that Linux takes; messages show a path whole
# Below this many rejected records a source is never refused, however small it is.
TOLERATED_RECORDS = 10


class Fault(Exception):
    """What is wrong with a record; the caller knows where it stands."""


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


class Tally:
    """Counts what a file's records are worth, and refuses it when too many are worth nothing.

    Args:
        path: of the file, for messages.
        bad_record_limit: share of the records that may be rejected (at least 10 may).
    """

    def __init__(self, path: Path, *, bad_record_limit: float) -> None:
        self.path = path
        self.rejected: list[BadSample] = []
        self.num_accepted = 0
        self._limit = bad_record_limit

    def accept(self) -> None:
        """Count a usable record."""
        self.num_accepted += 1

    def reject(self, where: str, fault: Fault) -> None:
        """Count a record that cannot be used, and name it if it is one of the first."""
        bad = BadSample(where, str(fault))
        if len(self.rejected) < TOLERATED_RECORDS:
            logger.warning("skipped %s", bad)
        self.rejected.append(bad)

    def check(self) -> None:
        """Raise where the file has no usable record or more bad ones than the limit."""
        rejected, total = self.rejected, self.num_accepted + len(self.rejected)
        if rejected and (
            not self.num_accepted or len(rejected) > max(TOLERATED_RECORDS, self._limit * total)
        ):
            raise UserError(
                f"{self.path}: {len(rejected)} of {total} records cannot be used, first "
                f"{rejected[0]}; mend the file"
            )
        if not total:
            raise UserError(f"{self.path} holds no records")
        if rejected:
            logger.warning(
                "%s: skipped %d of %d records; the others are numbered without them",
                self.path,
                len(rejected),
                total,
            )


def gather(
    path: Path,
    items: Iterable[tuple[str, Item | Fault]],
    parse: Callable[[Item], Record],
    *,
    bad_record_limit: float,
) -> Source[Record]:
    """Parse named items (``where`` and text) and apply the cap on what is rejected."""
    records, tally = [], Tally(path, bad_record_limit=bad_record_limit)
    for where, item in items:
        try:
            if isinstance(item, Fault):
                raise item
            records.append(parse(item))
            tally.accept()
        except Fault as fault:
            tally.reject(where, fault)
    tally.check()
    return Source(records, tuple(tally.rejected))


def read_lines(
    path: Path, tell: Callable[[int], object] | None = None
) -> Iterator[tuple[str, str | Fault]]:
    """Lines of a UTF-8 file with their place; a line that is not UTF-8 comes as a fault.

    Args:
        tell: called with the number of bytes of each line.
    """
    mark = b"\xef\xbb\xbf"  # may begin a file
    for where, raw in raw_lines(path):
        if tell is not None:
            tell(len(raw))
        raw, mark = raw.removeprefix(mark), b""
        try:
            yield where, raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            yield where, Fault("line is not UTF-8 text")


def raw_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Lines of a file with their place, as they are."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                yield f"{path}:{number}", raw
    except OSError as error:
        raise UserError(
            f"data file {path} cannot be read: {error.strerror}; check the path"
        ) from None


def split_line(raw: bytes, separator: str) -> list[str]:
    """The fields of a line."""
    try:
        return raw.decode("utf-8").rstrip("\r\n").split(separator)
    except UnicodeDecodeError:
        raise Fault("line is not UTF-8 text") from None


def parse_object(line: str) -> dict[str, Any]:
    """Read a line that holds one JSON object."""
    if not line.strip():
        raise Fault("line is empty")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise Fault(f"line is not JSON: {line[:40]!r}") from None
    if not isinstance(record, dict):
        raise Fault(f"line is not a JSON object: {line[:40]!r}")
    return record


def text_of(record: dict[str, Any], key: str) -> str:
    """The text under a key that must be there."""
    if key not in record:
        raise Fault(f"key '{key}' is missing; found {', '.join(sorted(record)) or 'none'}")
    return check_text(record[key], key)


def texts_of(
    record: dict[str, Any], key: str, *, required: bool = False, may_be_empty: bool = False
) -> tuple[str, ...]:
    """The list of texts under a key; none where it is absent and not required.

    Args:
        may_be_empty: whether single texts may be, as some of what people answered is.
    """
    if key not in record and required:
        raise Fault(f"key '{key}' is missing; found {', '.join(sorted(record)) or 'none'}")
    texts = record.get(key) or []
    if not isinstance(texts, list):
        raise Fault(f"'{key}' must be a list of texts, not {str(texts)[:40]!r}")
    if required and not texts:
        raise Fault(f"'{key}' is empty")
    return tuple(
        check_text(text, f"{key}[{number}]", may_be_empty=may_be_empty)
        for number, text in enumerate(texts)
    )


def check_text(text: Any, name: str, *, may_be_empty: bool = False) -> str:
    """Return the text without white space around it; empty, huge or broken text is a fault."""
    if not isinstance(text, str):
        raise Fault(f"'{name}' must be text, not {str(text)[:40]!r}")
    if not may_be_empty and not text.strip():
        raise Fault(f"'{name}' is empty")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:  # JSON escapes can write half of a surrogate pair
        raise Fault(f"'{name}' is not valid Unicode") from None
    if size > MAX_TEXT_BYTES:
        raise Fault(f"'{name}' of {size} bytes exceeds {MAX_TEXT_BYTES}")
    return text.strip()


class Folder:
    """A folder that paths must stay inside, links followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = os.path.realpath(folder)
        # Resolving each parent once spares several system calls a record.
        self._parents: dict[str, str] = {}

    def find(self, name: str) -> Path:
        """Resolve a relative path to an existing file, or image of a shard, inside the folder."""
        _check_name(name)
        inside = split_member(os.path.join(self._root, name))
        if inside is not None:
            return self._find_member(*inside, name)
        path = self.place(name)
        try:
            is_there = path.is_file()
        except OSError as error:  # a part of it is longer than the file system allows
            raise Fault(f"file {name[:60]!r}: {error.strerror}") from None
        if not is_there:
            raise Fault(f"file {name!r} does not exist in {self._folder}")
        return path

    def place(self, name: str) -> Path:
        """Resolve a relative path inside the folder, whether there is a file or not."""
        _check_name(name)
        parent, base = os.path.split(os.path.join(self._root, name))
        if parent not in self._parents:
            self._parents[parent] = os.path.realpath(parent)
        path = os.path.join(self._parents[parent], base)
        if os.path.islink(path):
            path = os.path.realpath(path)
        if not path.startswith(self._root.rstrip(os.sep) + os.sep):
            raise Fault(f"path {name!r} leads out of the folder through a link")
        return Path(path)

    def _find_member(self, shard: Path, member: str, name: str) -> Path:
        if not has_member(shard, member):
            raise Fault(f"image {name!r} does not exist in {self._folder}")
        return self.find(os.path.relpath(shard, self._root)) / member


def _check_name(name: str) -> None:
    if len(name) > MAX_PATH_CHARACTERS:
        raise Fault(f"path of {len(name)} characters exceeds {MAX_PATH_CHARACTERS}")
    if "\0" in name or os.path.isabs(name) or ".." in Path(name).parts:
        raise Fault(f"path {name!r} must be relative and stay inside the folder")
