"""What all imports of published data sets share.

An import reads files of others and writes what the tasks read, with ``manifest.json`` and
``report.html``, into a folder, which may hold other things, too. Everything is written aside and
then put in place; what a kill leaves half in place, the next call puts there whole. The same
inputs again are up to date; others are refused unless ``--replace`` is given.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from unimo_paddle.data.fingerprints import fingerprint_of
from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, Record
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
_READY, _UNFINISHED = ".import_ready", ".import_unfinished"
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
    finish: Callable[[], tuple[dict[str, str], list[str]]] = lambda: ({}, [])


def add_import_arguments(
    parser: argparse.ArgumentParser, *, output: str, with_images: bool = False
) -> None:
    """The options of every import.

    Args:
        output: where the recipes look for the set.
    """
    parser.add_argument(
        "--output", type=Path, default=Path(output), help=f"folder to write to ({output})"
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


def run_import(plan: ImportPlan, arguments: argparse.Namespace) -> None:
    """Write what is not up to date, and say what came out."""
    output = arguments.output
    if not 0.0 <= arguments.bad_record_limit <= 1.0:
        raise UserError(
            f"--bad_record_limit is {arguments.bad_record_limit}; give a share from 0 to 1"
        )
    _put_in_place(output)
    inputs = _inputs_of(plan, arguments)
    names = [*(part.name for part in plan.parts), MANIFEST, REPORT]
    if _is_up_to_date(output, inputs, names, may_replace=arguments.replace):
        print(f"up to date: {output}")
        return
    earlier = _outputs_of(output)
    unfinished = output / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        manifest = _write(plan, arguments, unfinished, inputs)
        if plan.images is not None:
            plan.images.place(by_copy=arguments.copy_images)
        unfinished.rename(output / _READY)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not any(output.iterdir()):
            output.rmdir()
    for name in earlier - manifest["outputs"].keys():
        (output / name).unlink(missing_ok=True)
    _put_in_place(output)
    for name, part in manifest["parts"].items():
        left_out = f", {part['bad_records']} left out" if part["bad_records"] else ""
        print(f"written: {output / name}, {part['records']} records{left_out}")
    for name in sorted(manifest["outputs"].keys() - manifest["parts"].keys()):
        print(f"written: {output / name}")


def _inputs_of(plan: ImportPlan, arguments: argparse.Namespace) -> dict[str, Any]:
    images = plan.images
    return {
        "version": VERSION,
        "sources": {"/".join(path.parts[-2:]): _fingerprint(path) for path in plan.sources},
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
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\n".encode())
    return digest.hexdigest()


def _is_up_to_date(
    output: Path, inputs: dict[str, Any], names: Sequence[str], *, may_replace: bool
) -> bool:
    """Whether the folder holds this import, whole; what else it holds may not be overwritten."""
    path = output / MANIFEST
    if not path.is_file():
        there = [name for name in names if (output / name).exists()]
        if there and not may_replace:
            raise UserError(
                f"{output / there[0]} is there and was not imported; choose another --output, or "
                "give --replace"
            )
        return False
    try:
        manifest = json.loads(path.read_text("utf-8"))
        known, outputs = manifest["inputs"], manifest["outputs"]
    except (ValueError, KeyError, TypeError):
        known, outputs = {}, {}
    differing = sorted(
        name for name in known.keys() | inputs.keys() if known.get(name) != inputs.get(name)
    )
    changed = [
        name
        for name, state in outputs.items()
        if not (output / name).is_file() or fingerprint_of(output / name) != state["sha256"]
    ]
    if not differing and not changed:
        return True
    if not may_replace and (differing or any((output / name).exists() for name in changed)):
        what = f"other {', '.join(differing)}" if differing else f"{changed[0]} was changed since"
        raise UserError(
            f"{output} holds an import already ({what}); choose another --output, or give --replace"
        )
    return False


def _outputs_of(output: Path) -> set[str]:
    """The files of the import that a folder holds."""
    path = output / MANIFEST
    try:
        return set(json.loads(path.read_text("utf-8"))["outputs"]) if path.is_file() else set()
    except (ValueError, KeyError, TypeError):
        return set()


def _write(
    plan: ImportPlan, arguments: argparse.Namespace, folder: Path, inputs: dict[str, Any]
) -> dict[str, Any]:
    measured: dict[str, PartMeasures] = {}
    for part in plan.parts:
        tally = Tally(part.source, bad_record_limit=arguments.bad_record_limit)
        measures = PartMeasures(plan.texts, plan.label, tally, may_lack_images=plan.may_lack_images)
        _write_part(folder / part.name, part, measures, lower_case=arguments.lower_case)
        measures.check()
        measured[part.name] = measures
    texts, remarks = plan.finish()
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    tokenizer = load_vocabulary(arguments.vocab_dir)
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
    (folder / MANIFEST).write_text(text, "utf-8")
    return manifest


def _write_part(path: Path, part: Part, measures: PartMeasures, *, lower_case: bool) -> None:
    seen: set[str] = set()
    with path.open("w", encoding="utf-8") as file:
        if part.columns:
            file.write("\t".join(part.columns) + "\n")
        items = tqdm(part.read(), desc=part.name, unit=" record", mininterval=1)
        for where, record in _each_once(items, seen):
            if isinstance(record, Fault):
                measures.reject(where, record)
                continue
            if lower_case:
                record |= {
                    x.name: _lower(record, x.name) for x in measures.columns if x.name in record
                }
            _write_record(file, record, part.columns)
            measures.add(record)


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


def _lower(record: Record, name: str) -> str | list[str]:
    lowered = [text.lower() for text in texts_of(record, name)]
    return lowered[0] if isinstance(record[name], str) else lowered


def _write_record(file: IO[str], record: Record, columns: Sequence[str]) -> None:
    if columns:
        file.write("\t".join(record[name] for name in columns) + "\n")
    else:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _put_in_place(output: Path) -> None:
    """Move what is ready to where it belongs; a kill in between leaves it for the next call."""
    ready = output / _READY
    if not ready.is_dir():
        return
    for path in _manifest_last(ready):
        os.replace(path, output / path.name)
    ready.rmdir()


def _manifest_last(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST)
