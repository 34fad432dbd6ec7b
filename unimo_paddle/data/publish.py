"""Files and folders that several processes make at once, and none may see half made."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

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


def write_whole(path: Path, text: str) -> None:
    """Write a text file, making its folder; whoever reads sees the earlier file or this one.

    A kill or a full disk leaves the earlier one. What is no plain file - a link, a pipe,
    ``/dev/stdout`` - is written to and not replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_text(text, "utf-8")
        return
    unfinished = name_unfinished(path)
    try:
        unfinished.write_text(text, "utf-8")
        os.replace(unfinished, path)
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


@contextmanager
def sole_writer(lock: Path, output: Path) -> Iterator[None]:
    """Let one process at a time make something; whoever comes second is refused at once.

    The system holds the lock and lets it go with the process, however that ends: a file that a kill
    leaves behind blocks nobody.

    Args:
        lock: file that is locked; it is there only meanwhile.
        output: what is made, for the message.
    """
    file = _lock(lock, output)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held, or it could be that of the next one
        file.close()


def _lock(path: Path, output: Path) -> IO[bytes]:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise UserError(
                f"{path.parent} cannot be written to: {error.strerror}; choose another output"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(
                f"another process is making {output} now and holds {path}; wait for its end, or "
                "choose another output"
            ) from None
        except OSError as error:  # some file systems of networks have no locks
            logger.warning(
                "%s cannot be locked (%s): nothing keeps a second process from making %s",
                path,
                error.strerror,
                output,
            )
        if _is_there(file, path):
            return file
        file.close()  # who held it before has taken the file away


def _is_there(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is still the one under its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
