"""What readers of published formats share: items, cells, files of JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import ijson
from tqdm import tqdm

from unimo_paddle.data.records import Fault, check_text, read_lines
from unimo_paddle.errors import UserError

Record = dict[str, Any]
Items = Iterator[tuple[str, Record | Fault]]  # the place of each record, and it or what is wrong


def one_line(text: Any, name: str) -> str:
    """A text as a cell of a table holds it: white space of any kind becomes single spaces."""
    return " ".join(check_text(text, name).split())


def one_lines(texts: Any, name: str) -> list[str]:
    """The texts of a list, which must hold some, each as ``one_line`` has it."""
    if not isinstance(texts, list) or not texts:
        raise Fault(f"'{name}' must be a list of texts that holds some, not {str(texts)[:40]!r}")
    return [one_line(text, f"{name}[{number}]") for number, text in enumerate(texts)]


def value_of(record: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    """The value of a JSON object under a key that must be there, of the kind that it must be."""
    if not isinstance(record, dict):
        raise Fault(f"record is no JSON object but {str(record)[:40]!r}")
    if key not in record:
        raise Fault(f"key '{key}' is missing; found {', '.join(sorted(record)) or 'none'}")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Fault(f"'{key}' is {str(value)[:40]!r}, of the wrong kind")
    return value


def parsed(items: Iterable[tuple[str, Any]], parse: Callable[[Any], Record]) -> Items:
    """Items with the record that ``parse`` makes of each, or the fault that it raises."""
    for where, item in items:
        try:
            if isinstance(item, Fault):
                raise item
            yield where, parse(item)
        except Fault as fault:
            yield where, fault


def read_text(path: Path) -> Iterator[tuple[str, str | Fault]]:
    """The lines of a file with their places, and a bar of how far it is read."""
    with _progress(path) as progress:
        yield from read_lines(path, progress.update)


def read_entries(path: Path) -> list[str]:
    """The lines of a list of names, without empty ones; none may be lost."""
    found = []
    for where, line in read_lines(path):
        if isinstance(line, Fault):
            raise UserError(f"{where}: {line}; give one name a line as UTF-8")
        found.append(line.strip())
    return [name for name in found if name]


def read_list(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """Place and value of the elements of the list under a key of a JSON file, one at a time.

    The file is an object; it is never held as a whole. Damage names the element it is found after.
    A bar shows how far it is read.
    """
    number = 0
    with _progress(path) as progress:
        items = _parse(path, f"{key}.item", progress.update)
        while True:
            try:
                item = next(items)
            except StopIteration:
                break
            except (ijson.JSONError, UnicodeDecodeError) as error:
                reason = " ".join(str(error).split())[:80]
                place = f"after {key}[{number - 1}]" if number else f"before any record of '{key}'"
                raise UserError(
                    f"{path} is damaged or cut off {place} ({reason}); fetch the file again"
                ) from None
            yield f"{path}: {key}[{number}]", item
            number += 1
    if not number:
        raise UserError(f"{path} holds no list '{key}' with records; is it another file?")


def read_value(path: Path, key: str) -> Any:
    """The value under a key of a JSON file that is an object; None where there is none."""
    try:
        return next(_parse(path, key, lambda size: None), None)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(
            f"{path} is damaged or cut off before '{key}' ({reason}); fetch the file again"
        ) from None


def _progress(path: Path) -> tqdm:
    total = path.stat().st_size if path.is_file() else None
    return tqdm(total=total, desc=path.name, unit="B", unit_scale=True, mininterval=1)


def _parse(path: Path, prefix: str, tell: Callable[[int], object]) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            yield from ijson.items(_Counted(file, tell), prefix, use_float=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from None


class _Counted:
    """A file that tells how many bytes are read of it; ijson sees no other way to read."""

    def __init__(self, file: IO[bytes], tell: Callable[[int], object]) -> None:
        self._file, self._tell = file, tell

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._tell(len(data))
        return data
