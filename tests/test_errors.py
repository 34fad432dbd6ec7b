"""A user's mistake ends a tool with one line; a mistake of ours keeps its traceback."""

from __future__ import annotations

import errno

import pytest

from unimo_paddle.errors import BadSample, ToolParser, UserError, report_user_errors


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


@pytest.mark.parametrize("error", [ValueError("ours"), OSError(errno.ENOENT, "ours")], ids=repr)
def test_other_errors_pass_through(error: Exception) -> None:
    with pytest.raises(type(error), match="ours"):
        main_raising(error)()


def test_tool_without_error_ends_normally() -> None:
    assert main_raising(None)() is None


def test_bad_sample_says_where_and_why() -> None:
    error = BadSample("train.jsonl:3", "the image is empty")
    assert (error.where, error.reason) == ("train.jsonl:3", "the image is empty")
    assert str(error) == "train.jsonl:3: the image is empty"
