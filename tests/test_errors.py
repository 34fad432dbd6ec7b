"""A user's mistake ends a tool with one line; a mistake of ours keeps its traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from unimo_paddle.errors import (
    UNREAD_CODE,
    BadSample,
    ToolParser,
    UserError,
    report_user_errors,
)


def main_raising(error: BaseException | None):
    @report_user_errors
    def main() -> None:
        if error is not None:
            raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("seed is -1; give at least 0"), 2, "error: seed is -1; give at least 0\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "error: cannot write a file: No space left on device; free space or choose another "
            "folder, then go on\n",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "runs/log"),
            2,
            "error: cannot write runs/log: Read-only file system; free space or choose another "
            "folder, then go on\n",
        ),
        (
            OSError(errno.EIO, "Input/output error", "train.jsonl"),
            2,
            "error: cannot read or write train.jsonl: Input/output error; the disk fails, use "
            "another one\n",
        ),
        (
            OSError(errno.EACCES, "Permission denied", "runs/x"),
            2,
            "error: cannot use runs/x: Permission denied; change its permissions, or choose "
            "another path\n",
        ),
        (
            OSError(errno.EPERM, "Operation not permitted", b"runs/x"),
            2,
            "error: cannot use runs/x: Operation not permitted; change its permissions, or choose "
            "another path\n",
        ),
        (
            OSError(errno.ENOTDIR, "Not a directory", "README.md/x"),
            2,
            "error: cannot use README.md/x: Not a directory; a part of the path is a file; choose "
            "another path\n",
        ),
        (
            OSError(errno.EISDIR, "Is a directory", "runs"),
            2,
            "error: cannot use runs: Is a directory; it is a folder; choose the path of a file\n",
        ),
        (
            OSError(errno.EEXIST, "File exists", ".unfinished", None, "README.md"),
            2,
            "error: cannot use README.md: File exists; something is there already; choose another "
            "path\n",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300),
            2,
            f"error: cannot use {'x' * 200}...: File name too long; choose a shorter name\n",
        ),
    ],
)
def test_tool_ends_with_one_line(
    capsys: pytest.CaptureFixture, error: BaseException, code: int, line: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main_raising(error)()
    assert ended.value.code == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("argv", "expected"),
    [([], "the following arguments are required: --run"), (["--run", "x", "--rnu"], "--rnu")],
)
def test_misused_options_are_one_line(argv: list[str], expected: str) -> None:
    parser = ToolParser(prog="evaluate.py")
    parser.add_argument("--run", required=True)
    with pytest.raises(UserError, match=expected) as raised:
        parser.parse_args(argv)
    assert "\n" not in str(raised.value) and "evaluate.py --help" in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("ours"),
        OSError(errno.ENOENT, "ours"),
        OSError(errno.ENOENT, "ours", "own.json"),
        OSError(errno.EACCES, "ours"),  # of a socket, say
        OSError(errno.EISDIR, "ours", 7),  # of an open file, whose path nobody knows
        OSError(errno.EBUSY, "ours", "own.json"),
    ],
    ids=repr,
)
def test_other_errors_pass_through(error: Exception) -> None:
    with pytest.raises(type(error), match="ours"):
        main_raising(error)()


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda folder: (folder / "file").mkdir(exist_ok=True), "file: File exists; something is"),
        (lambda folder: (folder / "file" / "x").mkdir(), "file/x: Not a directory; a part of"),
        (lambda folder: folder.write_text(""), ": Is a directory; it is a folder; choose"),
        (lambda folder: (folder / ("x" * 256)).touch(), "...: File name too long; choose a"),
    ],
    ids=["file for a folder", "file within the path", "folder for a file", "long name"],
)
def test_path_that_cannot_be_used_is_one_line(tmp_path, capsys, use, told: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        report_user_errors(lambda: use(tmp_path))()
    line = capsys.readouterr().err
    assert ended.value.code == 2 and line.startswith("error: cannot use ") and line.count("\n") == 1
    assert told in line


UNREAD = """
import sys
from unimo_paddle.errors import report_user_errors

report_user_errors(lambda: [print("x" * int(sys.argv[1])) for _ in range(9)])()
"""


@pytest.mark.parametrize("size", [1, 1 << 16])
@pytest.mark.parametrize("options", [[], ["-u"]])
def test_a_tool_that_nobody_reads_ends_without_a_word(
    monkeypatch, options: list[str], size: int
) -> None:
    """Whether it notices while it prints or at its end."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, *options, "-c", UNREAD, str(size)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (UNREAD_CODE, b"")


def test_a_broken_pipe_to_somewhere_else_passes_through() -> None:
    with pytest.raises(BrokenPipeError):
        main_raising(BrokenPipeError(errno.EPIPE, "of a socket"))()


def test_tool_without_error_ends_normally() -> None:
    assert main_raising(None)() is None


def test_bad_sample_says_where_and_why() -> None:
    error = BadSample("train.jsonl:3", "the image is empty")
    assert (error.where, error.reason) == ("train.jsonl:3", "the image is empty")
    assert str(error) == "train.jsonl:3: the image is empty"
