"""Reading of what is scored; whatever cannot be read is one line that names file and record."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unimo_paddle.errors import UserError


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is no UTF-8; convert the file") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from None
    lines = text.split("\n")  # and not where Unicode sees other ends of lines
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def read_numbers(path: Path) -> list[float]:
    """One number a line."""
    numbers = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            value = float(line)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UserError(
                f"{path} line {number}: {line[:40]!r} is no number; give one number a line"
            )
        numbers.append(value)
    return numbers


def read_json(path: Path, list_name: str | None = None) -> list[Any]:
    """The records of a JSON file: a list, or the one that the file's object has under a name."""
    try:
        value = json.loads("\n".join(read_lines(path)))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} line {error.lineno}: no JSON, {error.msg}; mend it") from None
    if list_name is not None:
        if not isinstance(value, dict) or list_name not in value:
            raise UserError(f"{path}: no object with {list_name!r}; give the published file")
        value = value[list_name]
    if not isinstance(value, list):
        where = f"{list_name!r} is" if list_name else "it holds"
        raise UserError(f"{path}: {where} no list; give the published layout")
    return value


def records(
    path: Path, items: Sequence[Any], fields: Mapping[str, type | tuple[type, ...]]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The number (from 1) and the fields of each record; one that lacks a field is an error.

    Args:
        fields: type by name.
    """
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise UserError(f"{path} record {number}: {item!r:.40} is no object; mend it")
        for name, kind in fields.items():
            value = item.get(name)
            if not isinstance(value, kind):
                raise UserError(
                    f"{path} record {number}: {name!r} is "
                    + (f"{value!r:.40}" if name in item else "missing")
                    + "; give it as the published files do"
                )
        yield number, tuple(item[name] for name in fields)


def read_results(
    path: Path,
    fields: Mapping[str, type | tuple[type, ...]],
    known: Container[Any],
    *,
    name: str,
    unknown: str,
) -> dict[Any, Any]:
    """What a list of results says of each item, which must be known and occur once.

    Args:
        fields: type by name: the key of an item, of one field or several, and what is said of it.
        known: keys of the items that may occur.
        name: of an item in messages, with places for the fields of its key.
        unknown: what is wrong with an item that is not known, and the remedy.
    """
    results: dict[Any, Any] = {}
    for number, (*key, value) in records(path, read_json(path), fields):
        item = tuple(key) if len(key) > 1 else key[0]
        where = f"{path} record {number}: {name.format(*key)}"
        if item in results:
            raise UserError(f"{where} again; give it once")
        if item not in known:
            raise UserError(f"{where} {unknown}")
        results[item] = value
    return results
