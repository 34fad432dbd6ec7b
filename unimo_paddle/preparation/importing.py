"""What all imports of published data sets share.

An import reads files of others and writes what the tasks read, with ``manifest.json`` and
``report.html``, into a folder, which may hold other things, too. Everything is written aside and
then put in place; what a kill leaves half in place, the next call puts there whole. The same
inputs again are up to date; others are refused unless ``--replace`` is given. A second import into
a folder is refused while the first one runs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from unimo_paddle.data.fingerprints import fingerprint_of
from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, Record
from unimo_paddle.data.publish import sole_writer
from unimo_paddle.data.records import Fault, Tally
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.import_report import write_report
from unimo_paddle.preparation.measures import (
    PartMeasures,
    TextColumn,
    load_vocabulary,
    texts_of,
)

MANIFEST, REPORT = "manifest.json", "report.html"
FORMAT = "unimo_paddle import"
VERSION = 1
SET_OUTPUT = Path("data/SET")  # stands for a folder called like the set that is imported
_READY, _UNFINISHED, _LOCK = ".import_ready", ".import_unfinished", ".import_lock"
_ID_KEYS = ("qid", "id")


@dataclass(frozen=True)
class Part:
    """One file that an import writes.

    Args:
        name: of the file.
        source: the file that its records come from, for messages.
        read: begins the records.
        columns: of a table; none writes JSON lines.
    """

    name: str
    source: Path
    read: Callable[[], Items]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportPlan:
    """What an import reads and writes.

    Args:
        title: of the set, for people.
        sources: files and folders whose content decides what comes out.
        parts: the files of records.
        texts: columns of texts, with what the recipes let through.
        label: key of the class, if there are classes.
        images: that the records name, if they do.
        options: whatever else decides what comes out.
        recipes: run files that read it.
        may_lack_images: whether records without their image are passed over and not counted as bad.
        further: names of the files that ``finish`` makes.
        finish: called after all records; texts of further files by name, and remarks for people.
    """

    title: str
    sources: Sequence[Path]
    parts: Sequence[Part]
    texts: Sequence[TextColumn]
    label: str | None = None
    images: ImageFolder | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    recipes: Sequence[str] = ()
    may_lack_images: bool = False
    further: Sequence[str] = ()
    finish: Callable[[], tuple[dict[str, str], list[str]]] = lambda: ({}, [])


def add_import_arguments(
    parser: argparse.ArgumentParser, *, output: Path, with_images: bool = False
) -> None:
    """The options of every import.

    Args:
        output: where the recipes look for the set.
    """
    parser.add_argument(
        "--output", type=Path, default=output, help=f"folder to write to ({output})"
    )
    if with_images:
        place = parser.add_mutually_exclusive_group(required=True)
        place.add_argument("--images", type=Path, help="folder of the images")
        place.add_argument(
            "--no_images",
            action="store_true",
            help="look for no image files: the records name them, a store has their regions",
        )
        parser.add_argument(
            "--copy_images",
            action="store_true",
            help="copy images from elsewhere into the output, where they cannot be linked",
        )
    parser.add_argument("--lower_case", action="store_true", help="write all texts in lower case")
    parser.add_argument(
        "--bad_record_limit",
        type=float,
        default=0.01,
        help="share of a file's records that may be unusable (0.01); ten always may",
    )
    parser.add_argument(
        "--vocab_dir",
        type=Path,
        default=Path("vocab"),
        help="folder of the released vocabulary; with it texts are counted in tokens, too (vocab)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="replace what was imported from other inputs"
    )


def image_folder(arguments: argparse.Namespace) -> ImageFolder:
    """The images that the options name."""
    return ImageFolder(arguments.images, arguments.output)


def run_import(
    make_plan: Callable[[argparse.Namespace], ImportPlan], arguments: argparse.Namespace
) -> None:
    """Write what is not up to date, and say what came out.

    Args:
        make_plan: looks for the sources; nobody else writes into the folder from then on.
    """
    if not 0.0 <= arguments.bad_record_limit <= 1.0:
        raise UserError(
            f"--bad_record_limit is {arguments.bad_record_limit}; give a share from 0 to 1"
        )
    if arguments.output == SET_OUTPUT:
        arguments.output = SET_OUTPUT.with_name(arguments.set)
    output = arguments.output
    # A folder that nobody can write to may be up to date.
    is_closed = output.is_dir() and not os.access(output, os.W_OK)
    try:
        with contextlib.nullcontext() if is_closed else sole_writer(output / _LOCK, output):
            _import(make_plan(arguments), arguments)
    finally:
        with contextlib.suppress(OSError):  # it holds something, as it should
            output.rmdir()


def _import(plan: ImportPlan, arguments: argparse.Namespace) -> None:
    output = arguments.output
    _put_in_place(output)
    inputs = _inputs_of(plan, arguments)
    names = [*(part.name for part in plan.parts), *plan.further, MANIFEST, REPORT]
    if _is_up_to_date(output, inputs, names, may_replace=arguments.replace):
        print(f"up to date: {output}")
        return
    unfinished = output / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{output} cannot be written to: {error.strerror}; choose another --output"
        ) from None
    try:
        manifest = _write(plan, arguments, unfinished, inputs)
        if plan.images is not None:
            plan.images.place(by_copy=arguments.copy_images, may_replace=arguments.replace)
        unfinished.rename(output / _READY)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _put_in_place(output)
    for name, part in manifest["parts"].items():
        left_out = f", {part['bad_records']} left out" if part["bad_records"] else ""
        print(f"written: {output / name}, {part['records']} records{left_out}")
    for name in sorted(manifest["outputs"].keys() - manifest["parts"].keys()):
        print(f"written: {output / name}")


def _inputs_of(plan: ImportPlan, arguments: argparse.Namespace) -> dict[str, Any]:
    images = plan.images
    sources: dict[str, str] = {}
    for path in dict.fromkeys(plan.sources):
        name = "/".join(path.parts[-2:])  # so that the files may be moved as a whole
        sources[name] = sources.get(name, "") + _fingerprint(path)
    return {
        "version": VERSION,
        "sources": sources,
        "images": images.fingerprint() if images and images.folder else None,
        "lower_case": arguments.lower_case,
        "bad_record_limit": arguments.bad_record_limit,
        **plan.options,
    }


def _fingerprint(path: Path) -> str:
    """Of a file its SHA-256; of a folder that of the names and sizes of all files in it."""
    if not path.is_dir():
        return fingerprint_of(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            known = f"{file.relative_to(path)}\0{file.stat().st_size}\n"
            digest.update(known.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_up_to_date(
    output: Path, inputs: dict[str, Any], names: Sequence[str], *, may_replace: bool
) -> bool:
    """Whether the folder holds this import, whole; what else it holds may not be overwritten."""
    known, outputs = _import_in(output)
    if not outputs:
        there = [name for name in names if (output / name).exists()]
        if there and not may_replace:
            raise UserError(
                f"{output / there[0]} is there and was not imported; choose another --output, or "
                "give --replace"
            )
        return False
    differing = sorted(
        name for name in known.keys() | inputs.keys() if known.get(name) != inputs.get(name)
    )
    changed = [
        name
        for name, digest in outputs.items()
        if not (output / name).is_file() or fingerprint_of(output / name) != digest
    ]
    if not differing and not changed:
        return True
    if not may_replace and (differing or any((output / name).exists() for name in changed)):
        what = f"other {', '.join(differing)}" if differing else f"{changed[0]} was changed since"
        raise UserError(
            f"{output} holds an import already ({what}); choose another --output, or give --replace"
        )
    return False


def _import_in(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Inputs of the import that a folder holds, and SHA-256 of its files by name; or nothing.

    A manifest that is damaged or of something else counts as none, and names no file elsewhere.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if manifest["format"] != FORMAT:
            return {}, {}
        digests = {name: state["sha256"] for name, state in manifest["outputs"].items()}
        inputs = dict(manifest["inputs"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, {}
    plain = {name: digest for name, digest in digests.items() if name and name == Path(name).name}
    return inputs, plain


def _write(
    plan: ImportPlan, arguments: argparse.Namespace, folder: Path, inputs: dict[str, Any]
) -> dict[str, Any]:
    tokenizer = load_vocabulary(arguments.vocab_dir)  # a damaged one is told before all work
    measured: dict[str, PartMeasures] = {}
    for part in plan.parts:
        tally = Tally(part.source, bad_record_limit=arguments.bad_record_limit)
        measures = PartMeasures(plan.texts, plan.label, tally, may_lack_images=plan.may_lack_images)
        _write_part(folder / part.name, part, measures, lower_case=arguments.lower_case)
        measures.check()
        measured[part.name] = measures
    texts, remarks = plan.finish()
    assert texts.keys() == set(plan.further), texts.keys()
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    manifest = {
        "format": FORMAT,
        "title": plan.title,
        "inputs": inputs,
        "recipes": list(plan.recipes),
        "remarks": remarks,
        "parts": {name: item.to_json(tokenizer) for name, item in measured.items()},
    }
    write_report(folder / REPORT, manifest, measured, plan.images)
    manifest["outputs"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": fingerprint_of(path)}
        for path in sorted(folder.iterdir())
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    # Names of files may be no valid Unicode; what is written for them is an escape of JSON.
    (folder / MANIFEST).write_text(text, "utf-8", errors="backslashreplace")
    return manifest


def _write_part(path: Path, part: Part, measures: PartMeasures, *, lower_case: bool) -> None:
    seen: set[str] = set()
    with path.open("w", encoding="utf-8") as file:
        if part.columns:
            file.write("\t".join(part.columns) + "\n")
        for where, record in _each_once(part.read(), seen):
            try:
                if isinstance(record, Fault):
                    raise record
                if lower_case:
                    record |= _lowered(record, measures.columns)
                _write_record(file, record, part.columns)
                measures.add(record)
            except Fault as fault:
                measures.reject(where, fault)


def _each_once(items: Items, seen: set[str]) -> Items:
    """The items; an id that occurred before is bad."""
    for where, record in items:
        if isinstance(record, dict):
            name = next((record[key] for key in _ID_KEYS if key in record), None)
            if name in seen:
                record = Fault(f"id {name!r} occurred before")
            elif name is not None:
                seen.add(name)
        yield where, record


def _lowered(record: Record, columns: Sequence[TextColumn]) -> Record:
    """The texts of a record in lower case."""
    lowered: Record = {}
    for column in columns:
        texts = [_lower(text, column.separator) for text in texts_of(record, column.name)]
        if column.name in record:
            lowered[column.name] = texts[0] if isinstance(record[column.name], str) else texts
    return lowered


def _lower(text: str, separator: str) -> str:
    parts = text.split(separator) if separator else [text]
    return separator.join(part.lower() for part in parts)


def _write_record(file: IO[str], record: Record, columns: Sequence[str]) -> None:
    line = (
        "\t".join(record[name] for name in columns)
        if columns
        else json.dumps(record, ensure_ascii=False)
    )
    try:
        file.write(f"{line}\n")
    except UnicodeEncodeError:  # JSON escapes and names of files can hold half of a surrogate pair
        raise Fault(f"record is not valid Unicode: {line[:40]!r}") from None


def _put_in_place(output: Path) -> None:
    """Move what is ready to where it belongs, and take away what an earlier import had beside it.

    A kill in between leaves the manifest, which goes last, and the rest for the next call.
    """
    ready = output / _READY
    if not ready.is_dir():
        return
    _, coming = _import_in(ready)
    if coming:
        _, earlier = _import_in(output)
        for name in earlier.keys() - coming.keys():
            (output / name).unlink(missing_ok=True)
    for path in sorted(ready.iterdir(), key=lambda path: path.name == MANIFEST):
        os.replace(path, output / path.name)
    ready.rmdir()
