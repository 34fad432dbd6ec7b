"""Files and folders that several processes make at once, and none may see half made."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

_HOST_CHARACTERS = 20  # of a host's name; the random part makes the difference
_FORGOTTEN_SECONDS = 24 * 3600  # nothing here takes so long; whoever made it is dead


def publish(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file or folder beside ``path`` and rename it, unless it is there already.

    Whoever comes second discards what it made: all processes of a run make the same.

    Args:
        write: makes the file or folder under the name that it is given, which ends like ``path``.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = name_unfinished(path)
    try:
        write(unfinished)
        try:
            os.rename(unfinished, path)
        except OSError:  # a folder does not replace one that holds something
            if not path.exists():
                raise
    finally:
        remove(unfinished)


def name_unfinished(path: Path) -> Path:
    """A hidden name beside ``path``, which ends like it and which no other process takes.

    Machines that share a folder often have equal process ids, and containers equal host names, so
    a part is random. What killed processes left half made of the same path is removed when it is a
    day old: until then it may be another machine's that still writes.
    """
    ending = f".{path.name}"
    is_unfinished = re.compile(rf"\.unfinished-.*-\d+-[0-9a-f]{{8}}{re.escape(ending)}")
    for other in path.parent.iterdir():
        if is_unfinished.fullmatch(other.name) and _is_forgotten(other):
            remove(other)
    host = re.sub(r"[^\w-]", "_", socket.gethostname())[:_HOST_CHARACTERS]
    return path.parent / f".unfinished-{host}-{os.getpid()}-{secrets.token_hex(4)}{ending}"


def remove(path: Path) -> None:
    """Delete a file or a folder; others may do so at the same time, or have done it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_forgotten(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS
    except FileNotFoundError:  # another process was faster
        return False
