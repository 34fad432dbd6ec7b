"""Errors that a user can cause, each told in one line: what, where, the value, the remedy."""

from __future__ import annotations

import argparse
import errno
import functools
import sys
import zipfile
import zlib
from collections.abc import Callable

USER_ERROR_CODE = 2  # exit code of a program after a mistake that its user can mend

# What NumPy raises of a file that is no whole archive of arrays: one array alone is a TypeError, a
# header that claims more than there is memory for a MemoryError, changed bits the last two.
ARCHIVE_DAMAGES = (ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError)
ARCHIVE_DAMAGES += (zipfile.BadZipFile, RuntimeError, zlib.error)

# A disk that takes no more, from wherever it was written to.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


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

    So does a disk that is full, read-only or failing.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(USER_ERROR_CODE) from None
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            print(f"error: {_describe(error)}", file=sys.stderr)
            raise SystemExit(USER_ERROR_CODE) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None

    return run


def _describe(error: OSError) -> str:
    name = error.filename or "a file"
    if error.errno == errno.EIO:
        return f"cannot read or write {name}: {error.strerror}; the disk fails, use another one"
    return f"cannot write {name}: {error.strerror}; free space or choose another folder, then go on"
