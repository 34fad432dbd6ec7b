"""Fingerprints of files: by content, which travels with them, or by what the file system says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from unimo_paddle.data.shards import (
    index_of,
    is_sharded,
    list_shards,
    split_member,
    texts_of_shard,
)
from unimo_paddle.errors import UserError

_BYTES_AT_ONCE = 1 << 20


def fingerprint_of(path: Path, tell: Callable[[int], object] | None = None) -> str:
    """SHA-256 of a file's bytes; of shards, which may be huge, of what is said and lies in them.

    Args:
        tell: called with the number of bytes that were read, now and then.
    """
    if is_sharded(path):
        return _fingerprint_of_shards(list_shards(path))
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BYTES_AT_ONCE):
                digest.update(block)
                if tell is not None:
                    tell(len(block))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from None
    return digest.hexdigest()


def _fingerprint_of_shards(shards: Iterable[Path]) -> str:
    """Of their names, texts, and the names and places of their images, wherever they lie."""
    digest = hashlib.sha256()
    for shard in shards:
        index = index_of(shard)
        told = [shard.name, index.image_names, index.places.tolist(), texts_of_shard(shard)]
        digest.update(json.dumps(told, sort_keys=True).encode("ascii"))
    return digest.hexdigest()


def quick_fingerprint_of(paths: Iterable[Path]) -> str:
    """SHA-256 of names, sizes and times of change: cheap, and different after any usual change."""
    digest = hashlib.sha256()
    for path in paths:
        inside = split_member(path)
        try:
            state = (path if inside is None else inside[0]).stat()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from None
        digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode("utf-8", "replace"))
    return digest.hexdigest()
