"""Files and folders that several processes make at once, and none may see half made."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)


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
