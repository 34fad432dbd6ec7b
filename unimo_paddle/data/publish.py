"""Files and folders that several processes make at once, and none may see half made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def publish(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file or folder beside ``path`` and rename it, unless it is there already.

    Whoever comes second discards what it made: all processes of a run make the same.

    Args:
        write: makes the file or folder under the name that it is given, which ends like ``path``.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    _remove(unfinished)
    try:
        write(unfinished)
        try:
            os.rename(unfinished, path)
        except OSError:  # a folder does not replace one that holds something
            if not path.exists():
                raise
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
