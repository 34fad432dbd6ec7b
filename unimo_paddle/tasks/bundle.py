"""What a bundle holds beside its graphs; written by export, read by the predictor."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.base import TaskConfig

MANIFEST_NAME = "bundle.json"  # services, their fields and outputs; size and SHA-256 of files
SETTINGS_NAME = "settings.yaml"
ASSETS_DIR = "assets"
FORMAT_VERSION = 2
PIECE_SIZE = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class BundleSettings:
    """The settings that turn text and images into what the graphs are fed."""

    model: ModelConfig  # sizes of the model
    task: TaskConfig  # the task and how it encodes


def identify_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of a bundle but its manifest, by its path inside."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = ((path, path.relative_to(folder).as_posix()) for path in paths)
    return {name: _identify(path) for path, name in names if name != MANIFEST_NAME}


def check_files(folder: Path, listed: dict[str, Any]) -> None:
    """Compare the files of a bundle with those that its manifest lists.

    Paddle reads truncated weights without a word, and goes on with whatever was in its memory.
    """
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            raise UserError(
                f"bundle {folder} lacks {name}; copy it whole, or run tools/export.py again"
            )
        try:
            found = _identify(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}; check it") from error
        if found != expected:
            raise UserError(
                f"{path} is damaged: its size or SHA-256 is not the one in {MANIFEST_NAME}; copy "
                "it anew, or run tools/export.py again"
            )


def _identify(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_SIZE):
            digest.update(piece)
            size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}
