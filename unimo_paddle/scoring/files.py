"""Reading of what is scored; whatever cannot be read is one line that names file and record."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unimo_paddle.errors import UserError

BYTE_ORDER_MARK = "\ufeff"  # may begin a file, and is no part of its text
JSON_LINES = ".jsonl"  # suffix of files of predictions, which are known by their first line, too
INDEX = "index"  # of a predicted record in its file; lines without it are in order
# What a line of tools/evaluate.py --predictions or of tools/predict.py holds, the most telling
# first, and what is done with it.
PREDICTED = {
    "text": "a 'text' is scored by the commands texts, coco and coqa",
    "answer": "an 'answer' is scored by the command vqa",
    "label": "a 'label' is scored by the command labels",
    "value": "a 'value' is scored by the command labels with --metrics pearson spearman",
    "log_likelihood": "likelihoods are measured by tools/evaluate.py itself",
    "score": "scores of right pairs tell no recall, which tools/evaluate.py measures itself",
}
IDS = ("id", "image_id")  # what names a record


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends."""
    try:
        text = path.read_bytes().decode("utf-8").removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is no UTF-8; convert the file") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from None
    lines = text.split("\n")  # and not where Unicode sees other ends of lines, or at a lone \r
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
    except RecursionError:
        raise UserError(f"{path}: its JSON is nested too deeply to be read; mend it") from None
    except ValueError:  # Python's limit
        raise UserError(f"{path}: its JSON holds a number of too many digits; mend it") from None
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
    return _fields_of(path, items, fields, "record", _published)


def _fields_of(
    path: Path,
    items: Sequence[Any],
    fields: Mapping[str, type | tuple[type, ...]],
    noun: str,
    remedy: Callable[[str, Mapping[str, Any]], str],
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Number and fields of each item.

    Args:
        noun: what an item is, in messages.
        remedy: (field, item) -> what to do about a field that is wrong or missing.
    """
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise UserError(f"{path} {noun} {number}: {item!r:.40} is no object; mend it")
        for name, kind in fields.items():
            value = item.get(name)
            if isinstance(value, bool) or not isinstance(value, kind):
                found = f"{value!r:.40}" if name in item else "missing"
                raise UserError(
                    f"{path} {noun} {number}: {name!r} is {found}; {remedy(name, item)}"
                )
        yield number, tuple(item[name] for name in fields)


def _published(name: str, item: Mapping[str, Any]) -> str:
    return "give it as the published files do"


# ---- predictions of our own tools


def read_predictions(path: Path) -> list[Any] | None:
    """The lines that tools/evaluate.py --predictions or tools/predict.py wrote, read as JSON.

    None of a file that is not theirs.
    """
    lines = read_lines(path)
    if not (path.suffix.lower() == JSON_LINES or _holds_prediction(lines[:1])):
        return None
    items = []
    for number, line in enumerate(lines, 1):
        try:
            items.append(json.loads(line))
        except (ValueError, RecursionError):
            raise UserError(f"{path} line {number}: no JSON: {line[:40]!r}; mend it") from None
    return items


def _holds_prediction(lines: Sequence[str]) -> bool:
    try:
        items = [json.loads(line) for line in lines if line.startswith("{")]
    except (ValueError, RecursionError):
        return False
    return any(name in item for item in items for name in PREDICTED)


def predictions(
    path: Path, items: Sequence[Any], fields: Mapping[str, type | tuple[type, ...]]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The number (from 1) and the fields of each line; one that lacks a field is an error.

    Args:
        fields: type by name.
    """
    return _fields_of(path, items, fields, "line", _remedy)


def _remedy(name: str, item: Mapping[str, Any]) -> str:
    if name in item:
        return "mend it"
    if name in IDS and any(other in item for other in PREDICTED):
        return (
            "lines of tools/predict.py name no records: give what tools/evaluate.py --predictions "
            "wrote, of records with ids"
        )
    known = [said for other, said in PREDICTED.items() if other in item]
    return known[0] if known else "give what tools/evaluate.py --predictions wrote"


def in_order(
    path: Path, items: Sequence[Any], name: str, kind: type | tuple[type, ...]
) -> list[Any]:
    """One field of each line, in the order of the records; all of these must be there."""
    values: dict[int, Any] = {}
    for number, (value,) in predictions(path, items, {name: kind}):
        place = items[number - 1].get(INDEX, number - 1)
        if not isinstance(place, int) or isinstance(place, bool) or place < 0 or place in values:
            raise UserError(
                f"{path} line {number}: {INDEX!r} is {place!r:.40}; give the number of each record "
                "once, from 0"
            )
        values[place] = value
    missing = next((place for place in range(len(values)) if place not in values), None)
    if missing is not None:
        raise UserError(
            f"{path}: record {missing} (from 0) has no line, though record {max(values)} has one; "
            "its input could not be used: mend that and predict again"
        )
    return [values[place] for place in range(len(values))]
