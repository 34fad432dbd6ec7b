"""Files by split: as options name them, as a folder holds them, and what is made of each."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unimo_paddle.data.formats.items import Items
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.importing import Part


def add_split_arguments(parser: argparse.ArgumentParser, **meanings: str) -> None:
    """An option for the file of each split; the keywords are the splits, with what they mean."""
    for split, meaning in meanings.items():
        parser.add_argument(f"--{split}", type=Path, help=meaning)


def given_files(arguments: argparse.Namespace, *splits: str) -> dict[str, Any]:
    """What the options name for these splits, of which one must be given."""
    given = {split: getattr(arguments, split) for split in splits}
    given = {split: files for split, files in given.items() if files is not None}
    if not given:
        options = ", ".join(f"--{split}" for split in splits)
        raise UserError(f"nothing to import: give one or more of {options}")
    return given


def found_files(folder: Path, names: Mapping[str, str], *, what: str) -> dict[str, Path]:
    """The files of splits that are in a folder, of which one must be there.

    Args:
        names: of the file of each split, as it is published.
        what: the folder holds, for the message.
    """
    found = {split: folder / name for split, name in names.items()}
    found = {split: path for split, path in found.items() if path.is_file()}
    if not found:
        listed = ", ".join(names.values())
        raise UserError(f"{folder} holds none of {listed}; give the folder of {what}")
    return found


def parts_of(files: Mapping[str, Path], read: Callable[..., Items], **more: Any) -> list[Part]:
    """A file of JSON lines for each split.

    Args:
        read: begins the records of a path, with ``more``.
    """
    return [
        Part(f"{split}.jsonl", path, functools.partial(read, path, **more))
        for split, path in files.items()
    ]


def names_of(files: Mapping[str, Path]) -> dict[str, str]:
    """The name of the file of each split, as it decides what comes out."""
    return {split: path.name for split, path in files.items()}
