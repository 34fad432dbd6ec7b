"""Imports called in this process, and folders of pictures to import."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw_picture, write_picture_file
from unimo_paddle.errors import ToolParser
from unimo_paddle.models import ModelConfig

MODEL = ModelConfig(
    vocab_size=300,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    max_positions=130,
    region_feature_size=192,
    num_roles=3,
    num_turns=4,
)
COLA = ("gj04\t1\t\tThe boats sailed home .", "cj99\t0\t*\tThe more boats home .")
Import = Callable[..., Path]


@pytest.fixture
def run_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """Run a command in an empty folder: (its module, options) -> the folder it wrote to."""
    monkeypatch.chdir(tmp_path)

    def run(command: Any, *options: object) -> Path:
        parser = ToolParser()
        command.add_arguments(parser)
        arguments = parser.parse_args([str(option) for option in options])
        command.run(arguments)
        return tmp_path / arguments.output

    return run


@pytest.fixture
def cola(tmp_path: Path) -> Path:
    """A folder of two tables of GLUE."""
    write_lines(tmp_path / "CoLA/train.tsv", *COLA)
    write_lines(tmp_path / "CoLA/dev.tsv", *COLA[:1])
    return tmp_path / "CoLA"


def write_pictures(folder: Path, *names: str) -> Path:
    """A folder of small pictures under these names."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture_file(path, draw_picture(number, size=(24, 32)))
    return folder


def write_json(path: Path, value: Any) -> Path:
    """A file of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")
    return path


def write_lines(path: Path, *lines: str) -> Path:
    """A file of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def manifest_of(output: Path) -> dict[str, Any]:
    """What an import says of itself."""
    return json.loads((output / "manifest.json").read_text("utf-8"))
