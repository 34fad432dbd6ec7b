"""What several processes make at once: whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimo_paddle.data.publish import publish


def write_slowly(folder: Path) -> None:
    folder.mkdir()
    (folder / "first").write_text("1")
    assert not (folder.parent / "made").exists()  # nobody sees the first without the second
    (folder / "second").write_text("2")


def test_a_folder_appears_with_all_that_is_in_it(tmp_path: Path) -> None:
    publish(tmp_path / "deep" / "made", write_slowly)
    assert sorted(path.name for path in (tmp_path / "deep" / "made").iterdir()) == [
        "first",
        "second",
    ]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["made"]


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("mine")
    publish(tmp_path / "made", lambda path: pytest.fail("written again"))
    assert (tmp_path / "made").read_text() == "mine"


def test_the_second_of_two_discards_its_folder(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_slowly(folder)
        other = tmp_path / "made"
        other.mkdir()
        (other / "theirs").touch()

    publish(tmp_path / "made", write)
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "theirs"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_slowly(folder)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        publish(tmp_path / "made", write)
    assert not list(tmp_path.iterdir())
