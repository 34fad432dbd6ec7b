"""Tar shards in the layout of webdataset, read in place: a member is a file like any other.

Members whose names are equal up to the first dot belong together: ``000012.jpg`` with
``000012.txt`` (a caption a line) or ``000012.json`` (``captions`` or ``caption``, and what else
stands in a line of pairs). The path of a member is that of its shard with its name behind it,
``shards/00003.tar/000012.jpg``. Where it lies is looked up in an index, made once for each shard
and kept in ``CACHE_DIR``; so records of shards are drawn at random as those of plain files are, and
a batch stays a function of seed, step and rank.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from unimo_paddle.data.publish import publish
from unimo_paddle.errors import UserError

CACHE_DIR = Path("runs/data/shards")
SHARD_SUFFIX = ".tar"
_SHARD_END = SHARD_SUFFIX + os.sep  # what stands between a shard's name and a member's
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_SHARDS = 10**6
_TEXT_SUFFIXES = (".txt", ".json")
MAX_TEXT_BYTES = 10**6  # of what is said of one image
_BLOCK = 512  # bytes of a header, and what all parts of a tar file are filled up to
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_VERSION = 1  # of the index
_LOCK = Lock()  # threads of one process would write one unfinished file
_REMEDY = "fetch or write the shard again"


@dataclass(frozen=True)
class ShardIndex:
    """Where the images of a shard lie.

    Args:
        names: [n] bytes, of the members that are images, in order.
        places: [n, 2] int64, the first byte and the number of bytes of each.
    """

    names: np.ndarray
    places: np.ndarray

    @property
    def image_names(self) -> list[str]:
        """The names as text."""
        return [name.decode("utf-8", "surrogateescape") for name in self.names]

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.names, kind="stable")

    def place(self, name: str) -> tuple[int, int] | None:
        """First byte and size of an image; None where there is none of the name."""
        wanted = np.array(_encode(name))
        number = np.searchsorted(self.names, wanted, sorter=self._order)
        if number == len(self.names) or self.names[self._order[number]] != wanted:
            return None
        first, size = self.places[self._order[number]]
        return int(first), int(size)


def is_sharded(path: Path | str) -> bool:
    """Whether a path names shards: one, or several by ``{00000..00099}``."""
    return str(path).endswith(SHARD_SUFFIX) and not Path(path).is_dir()


def files_of(path: Path) -> list[Path]:
    """The files that a path of data names: itself, or its shards."""
    return list_shards(path) if is_sharded(path) else [path]


def folder_of(path: Path) -> Path:
    """The folder that the images of a path lie in: itself, or that of its shards."""
    return path.parent if is_sharded(path) else path


def list_shards(pattern: Path | str) -> list[Path]:
    """The shards that a path names, in order; each must be there."""
    if not str(pattern).endswith(SHARD_SUFFIX):
        raise UserError(
            f"{pattern} names no shards: these are plain tar files called NAME{SHARD_SUFFIX}; "
            "rename or unpack them"
        )
    paths = [Path(name) for name in _expand(str(pattern))]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(paths)} shards of {pattern} do not exist, first {missing[0]}; "
            "check the path and the range"
        )
    return paths


def _expand(pattern: str) -> list[str]:
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found[1], found[2]
    count = int(last) - int(first) + 1
    if not 0 < count <= MAX_SHARDS:
        raise UserError(f"{pattern} names {count} shards; give a range that grows, as {{00..09}}")
    width = len(first) if first.startswith("0") else 0
    numbers = (f"{number:0{width}d}" for number in range(int(first), int(last) + 1))
    parts = (pattern[: found.start()] + number + pattern[found.end() :] for number in numbers)
    return [name for part in parts for name in _expand(part)]


def split_member(path: Path | str) -> tuple[Path, str] | None:
    """The shard and the name of a member; None for the path of a plain file."""
    text = str(path)
    end = text.find(_SHARD_END)
    while end >= 0:  # a folder above the shard may be called like one
        shard = text[: end + len(SHARD_SUFFIX)]
        if os.path.isfile(shard):
            return Path(shard), text[end + len(_SHARD_END) :]
        end = text.find(_SHARD_END, end + 1)
    return None


def has_member(shard: Path, name: str) -> bool:
    """Whether a shard holds an image of this name."""
    return index_of(shard).place(name) is not None


def is_there(path: Path) -> bool:
    """Whether there is a file, or an image in a shard, under a path."""
    inside = split_member(path)
    return path.is_file() if inside is None else has_member(*inside)


def size_of(path: Path) -> int:
    """Bytes of a file or of an image in a shard."""
    inside = split_member(path)
    return path.stat().st_size if inside is None else _place(*inside)[1]


def read_bytes(path: Path) -> bytes:
    """The content of a file or of an image in a shard."""
    inside = split_member(path)
    if inside is None:
        return path.read_bytes()
    first, size = _place(*inside)
    with inside[0].open("rb") as file:
        file.seek(first)
        return file.read(size)


def _place(shard: Path, name: str) -> tuple[int, int]:
    place = index_of(shard).place(name)
    if place is None:
        raise FileNotFoundError(2, "no such member of the shard", f"{shard}/{name}")
    return place


def list_images(pattern: Path | str) -> list[Path]:
    """The paths of all images in shards, in order."""
    shards = [shard.resolve() for shard in list_shards(pattern)]
    return [shard / name for shard in shards for name in index_of(shard).image_names]


def index_of(shard: Path) -> ShardIndex:
    """The index of a shard, read or made; a shard that has changed is looked through again."""
    size, time = _state_of(shard)
    with _LOCK:
        return _read_index(shard, size, time)


@cache
def _read_index(shard: Path, size: int, time: int) -> ShardIndex:
    with np.load(_index_path(shard, size, time), allow_pickle=False) as file:
        return ShardIndex(file["names"], file["places"])


def texts_of_shard(shard: Path) -> dict[str, Any]:
    """What is said in a shard, from the text members beside its images.

    ``of_images`` has for each image, in order, its texts by suffix; None stands for one that is too
    long or not UTF-8. ``alone`` lists the names of text members without an image.
    """
    with _LOCK, np.load(_index_path(shard, *_state_of(shard)), allow_pickle=False) as file:
        return json.loads(file["texts"].tobytes())


def _state_of(shard: Path) -> tuple[int, int]:
    """Size and time of change: what tells whether an index still holds."""
    try:
        state = os.stat(shard)
    except OSError as error:
        raise UserError(f"shard {shard} cannot be read: {error.strerror}; check the path") from None
    return state.st_size, state.st_mtime_ns


def _index_path(shard: Path, size: int, time: int) -> Path:
    """The file of a shard's index, which is made where it is not there."""
    known = f"{_VERSION}\0{shard.resolve()}\0{size}\0{time}"
    key = hashlib.sha256(known.encode("utf-8", "replace")).hexdigest()
    path = CACHE_DIR / f"{shard.stem}-{key[:16]}.npz"
    if not path.is_file():
        arrays = _look_through(shard, size)
        publish(path, lambda unfinished: _save(unfinished, arrays))
    return path


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _look_through(shard: Path, size: int) -> dict[str, np.ndarray]:
    """Walk the headers of a shard, and read its texts."""
    images: list[tuple[str, str]] = []  # key and name
    places: list[tuple[int, int]] = []
    texts: dict[str, dict[str, str | None]] = {}
    names: dict[str, str] = {}  # of a text of each key
    for name, first, count in _members(shard, size):
        folder, base = os.path.split(name)
        stem, dot, suffix = base.partition(".")
        key, suffix = os.path.join(folder, stem), (dot + suffix).lower()
        if stem and suffix in IMAGE_SUFFIXES:
            images.append((key, name))
            places.append((first, count))
        elif stem and suffix in _TEXT_SUFFIXES:
            texts.setdefault(key, {})[suffix] = _read_text(shard, first, count)
            names[key] = name
    if not images:
        raise UserError(f"shard {shard} holds no {', '.join(IMAGE_SUFFIXES)} member; {_REMEDY}")
    known = {key for key, _ in images}
    said = {
        "of_images": [texts.get(key, {}) for key, _ in images],
        "alone": [name for key, name in names.items() if key not in known],
    }
    return {
        "names": np.array([_encode(name) for _, name in images], np.bytes_),
        "places": np.array(places, np.int64),
        "texts": np.frombuffer(json.dumps(said).encode(), np.uint8),
    }


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _members(shard: Path, size: int) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and size of each file in a tar; what is cut off is a UserError."""
    name, end = "(none)", 0
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                name, end = member.name, member.offset_data + member.size
                if end > size:
                    raise UserError(
                        f"shard {shard} is cut off within its member {name}: {size} bytes of at "
                        f"least {end}; {_REMEDY}"
                    )
                if member.isfile():
                    yield name, member.offset_data, member.size
        with shard.open("rb") as file:
            file.seek(-(-end // _BLOCK) * _BLOCK)
            # Where a header should be that cannot be read, tarfile stops without a word.
            is_ended = file.read(_BLOCK) == bytes(_BLOCK)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(
            f"shard {shard} is no readable tar file after its member {name} ({error}); {_REMEDY}"
        ) from None
    if not is_ended:
        raise UserError(
            f"shard {shard} is cut off or damaged after its member {name}: no mark of the end; "
            f"{_REMEDY}"
        )


def _read_text(shard: Path, first: int, count: int) -> str | None:
    """A member's text; None where it is too long or not UTF-8."""
    if count > MAX_TEXT_BYTES:
        return None
    with shard.open("rb") as file:
        file.seek(first)
        try:
            return file.read(count).decode("utf-8")
        except UnicodeDecodeError:
            return None
