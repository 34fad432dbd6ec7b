"""Records from tables: a row a record, columns by name."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from unimo_paddle.data.records import MAX_TEXT_BYTES, Fault, Source, gather, read_lines
from unimo_paddle.errors import UserError

Record = TypeVar("Record")
Row = Mapping[str, str]

ID_COLUMN = "qid"
UNNAMED_COLUMN = "_"  # in a list of columns: one that is not read


def read_table(
    path: Path | str,
    parse: Callable[[Row], Record],
    *,
    required: Sequence[str],
    columns: Sequence[str] = (),
    bad_record_limit: float = 0.01,
) -> Source[Record]:
    """Read the rows of a UTF-8 table.

    ``.csv`` is separated by commas with quotes, anything else by tabs without quoting. The first
    line names the columns, unless ``columns`` does. A row whose ``qid`` occurred before is bad.

    Args:
        parse: a row by column name -> record; raises ``Fault`` for one that cannot be used.
        required: columns that must be there.
        columns: names of the columns of a file without such a line; ``_`` is not read.
        bad_record_limit: share of the rows that may be rejected (at least 10 may).
    """
    path = Path(path)
    lines = read_lines(path)
    split = _split_quoted if path.suffix.lower() == ".csv" else _split_tabs
    if columns:
        named = [name for name in columns if name != UNNAMED_COLUMN]
        _refuse_doubled(named, "task.data.columns names", f"or write {UNNAMED_COLUMN} for it")
    else:
        columns = _read_header(path, lines, split)
    missing = [name for name in required if name not in columns]
    if missing:
        raise UserError(
            f"{path} has the columns {', '.join(columns)} but no {', '.join(missing)}; add it, or "
            "name the columns of a file without a header in task.data.columns"
        )
    seen: set[str] = set()

    def parse_line(line: str) -> Record:
        if len(line) > MAX_TEXT_BYTES:
            raise Fault(f"line of {len(line)} characters exceeds {MAX_TEXT_BYTES}")
        cells = split(line)
        if len(cells) != len(columns):
            raise Fault(f"{len(cells)} cells for the {len(columns)} columns {', '.join(columns)}")
        row = {
            name: cell for name, cell in zip(columns, cells, strict=True) if name != UNNAMED_COLUMN
        }
        _check_id(row, seen)
        return parse(row)

    items = ((where, line) for where, line in lines if isinstance(line, Fault) or line.strip())
    return gather(path, items, parse_line, bad_record_limit=bad_record_limit)


def _read_header(
    path: Path, lines: Iterator[tuple[str, str | Fault]], split: Callable[[str], list[str]]
) -> list[str]:
    where, line = next(lines, ("", None))
    if line is None:
        raise UserError(f"{path} has no header line of column names; see docs/finetuning.md")
    try:
        if isinstance(line, Fault):
            raise line
        names = [name.strip() for name in split(line)]
    except Fault as fault:
        raise UserError(f"{where}: {fault}; it must name the columns, mend it") from None
    _refuse_doubled(names, f"{path}: the header names")
    return names


def _refuse_doubled(names: Sequence[str], owner: str, remedy: str = "") -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"{owner} column {doubled[0]} twice; rename one {remedy}".rstrip())


def _split_tabs(line: str) -> list[str]:
    return line.split("\t")


def _split_quoted(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except (csv.Error, StopIteration) as error:
        raise Fault(f"line is no row of comma separated values ({error})") from None


def _check_id(row: Row, seen: set[str]) -> None:
    if ID_COLUMN not in row:
        return
    if row[ID_COLUMN] in seen:
        raise Fault(f"{ID_COLUMN} {row[ID_COLUMN]!r} occurred before")
    seen.add(row[ID_COLUMN])
