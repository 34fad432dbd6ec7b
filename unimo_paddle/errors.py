"""Errors that a user can cause, each told in one line: what, where, the value, the remedy."""

from __future__ import annotations

import argparse
import errno
import functools
import os
import select
import sys
import zipfile
import zlib
from collections.abc import Callable

USER_ERROR_CODE = 2  # exit code of a program after a mistake that its user can mend
UNREAD_CODE = 141  # of one that nobody reads any more, as shells tell of the end by SIGPIPE

# What NumPy raises of a file that is no whole archive of arrays: one array alone is a TypeError, a
# header that claims more than there is memory for a MemoryError, changed bits the last two.
ARCHIVE_DAMAGES = (ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError)
ARCHIVE_DAMAGES += (zipfile.BadZipFile, RuntimeError, zlib.error)

# A disk that takes no more, from wherever it was written to.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
# A path that cannot be used for what it was given for. A missing file is not among them: files
# that users name are opened where their absence is told, so that any other is a mistake of ours.
_PATH_REMEDIES = {
    errno.EACCES: "change its permissions, or choose another path",
    errno.EPERM: "change its permissions, or choose another path",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EISDIR: "it is a folder; choose the path of a file",
    errno.EEXIST: "something is there already; choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_PATH_CHARACTERS = 200  # of one that is shown; a longer one is often the mistake


class UserError(ValueError):
    """A mistake in a setting, a file or a call that its user can mend.

    The message is one line and names what is wrong, where, the value found and the remedy.
    """


class BadSample(Exception):
    """One sample that cannot be used; the loader counts it, names it and takes another.

    Args:
        where: file and line or index, enough to find the sample again.
        reason: what is wrong with it.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class ToolParser(argparse.ArgumentParser):
    """Options of a tool, whose misuse is a ``UserError`` like any other mistake."""

    def error(self, message: str) -> None:
        """Raise instead of printing the usage and ending the process."""
        raise UserError(f"{message}; {self.prog} --help explains the options")


def report_user_errors(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a tool's ``main`` so that a user's mistake ends it with one line and exit code 2.

    So does a disk that is full, read-only or failing, and a path that cannot be used. One whose
    output nobody reads any more, as behind ``| head -1``, ends without a word.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
            print(end="", flush=True)  # here, where a reader that is gone can be told
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(USER_ERROR_CODE) from None
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _is_unread():
                raise SystemExit(UNREAD_CODE) from None
            message = _describe(error)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr)
            raise SystemExit(USER_ERROR_CODE) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None

    return run


def _is_unread() -> bool:
    """Whether nobody reads what is printed; if so, what is left of it goes nowhere."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, AttributeError):  # no file, as in tests, or closed from the start
        return False
    watch = select.poll()
    watch.register(descriptor, 0)  # errors are told unasked
    if not watch.poll(0):
        return False
    # Or the interpreter would try once more at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return True


def _describe(error: OSError) -> str | None:
    """What a user can do about an error of the system; None where that is not known."""
    # Of a file that gets another name users know the new one.
    path = error.filename2 or error.filename
    if error.errno in _PATH_REMEDIES and isinstance(path, str | bytes | os.PathLike):
        shown = os.fsdecode(path)
        if len(shown) > _PATH_CHARACTERS:
            shown = f"{shown[:_PATH_CHARACTERS]}..."
        return f"cannot use {shown}: {error.strerror}; {_PATH_REMEDIES[error.errno]}"
    if error.errno not in _DISK_ERRORS:
        return None
    name = error.filename or "a file"
    if error.errno == errno.EIO:
        return f"cannot read or write {name}: {error.strerror}; the disk fails, use another one"
    return f"cannot write {name}: {error.strerror}; free space or choose another folder, then go on"
