"""tools/prepare_data.py leaks, as a user meets it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import Tool


@pytest.fixture
def leaky(scenes_dir: Path, tmp_path: Path) -> Path:
    """Scenes with an image of the test split among those without captions."""
    folder = tmp_path / "scenes"
    shutil.copytree(scenes_dir, folder)
    first = json.loads((folder / "test.jsonl").read_text().splitlines()[0])
    shutil.copy(folder / first["image"], folder / "images_only/zzz.png")
    return folder


@pytest.fixture
def look(run_tool: Tool, tmp_path: Path) -> Callable[..., CompletedProcess]:
    """Look for leaks in a folder of scenes: (folder, *options) -> the completed process."""

    def look(scenes: Path, *options: object) -> CompletedProcess:
        return run_tool(
            *("prepare_data", "leaks", "--pairs", scenes / "train.jsonl"),
            *("--images", scenes / "images_only", "--texts", scenes / "texts.txt"),
            *("--splits", scenes / "test.jsonl", "--cache", tmp_path / "cache", *options),
        )

    return look


def test_the_built_in_data_do_not_leak(look, scenes_dir: Path) -> None:
    done = look(scenes_dir)
    assert done.returncode == 0, done.stderr
    assert "0 of 6 images are copies" in done.stdout


def test_a_leak_ends_with_one_line_and_code_2(look, leaky: Path) -> None:
    done = look(leaky)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    parts = ("1 copied image of", "test.jsonl", "zzz.png", "--report FILE", "--allow")
    assert [part for part in parts if part not in lines[0]] == [], lines[0]


def test_an_allowed_leak_is_reported_in_full(look, leaky: Path, tmp_path: Path) -> None:
    done = look(leaky, "--allow", "--report", tmp_path / "leaks.json")
    assert done.returncode == 0, done.stderr
    (leak,) = json.loads((tmp_path / "leaks.json").read_text())["leaks"]
    assert leak["kind"] == "image" and leak["found"].endswith("zzz.png")
