"""The user's file of paraphrases."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimo_paddle.data.rewriting.paraphrases import read_paraphrases
from unimo_paddle.errors import UserError


def write(folder: Path, *lines: str) -> Path:
    path = folder / "paraphrases.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_lines_on_one_caption_are_joined(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"caption": " a dog ", "paraphrases": ["one dog", "a hound"]}',
        '{"caption": "a dog", "paraphrases": ["a hound", "dogs"]}',
    )
    assert read_paraphrases(path) == {"a dog": ("one dog", "a hound", "dogs")}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"paraphrases": ["x"]}', "key 'caption' is missing"),
        ('{"caption": "x"}', "key 'paraphrases' is missing"),
        ('{"caption": "x", "paraphrases": []}', "'paraphrases' is empty"),
        ('{"caption": "x", "paraphrases": ["' + "y" * 10_001 + '"]}', "10001 characters"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"paraphrases.jsonl:1: .*{reason}"):
        read_paraphrases(write(tmp_path, line))
