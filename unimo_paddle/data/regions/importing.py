"""From what a detector wrote to a store: records stream through, one at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unimo_paddle.data.fingerprints import fingerprint_of, quick_fingerprint_of
from unimo_paddle.data.publish import sole_writer
from unimo_paddle.data.records import TOLERATED_RECORDS, Fault, read_lines
from unimo_paddle.data.regions.checks import cut_boxes, to_stored
from unimo_paddle.data.regions.layout import (
    FORMAT,
    MANIFEST_NAME,
    NAMES_NAME,
    VERSION,
    ImageRegions,
)
from unimo_paddle.data.regions.measures import measure_arrays
from unimo_paddle.data.regions.store import RegionStore, map_arrays
from unimo_paddle.data.regions.writer import IDS_NAME, PROGRESS_NAME, StoreWriter
from unimo_paddle.errors import BadSample, UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """A record of a source, not read yet.

    Args:
        where: file and line, or what else finds it again.
        load: reads it; a ``Fault`` says what is wrong.
        size: its share of the source's ``total``.
        repeated_id: name of its image, where a source has images as often as captions: one that
            was read before is passed over.
    """

    where: str
    load: Callable[[], ImageRegions]
    size: int = 1
    repeated_id: str | None = None


@dataclass(frozen=True)
class RegionSource:
    """What a detector wrote.

    Args:
        files: all that is read, to tell whether it has changed.
        items: begins to read, in an order that is always the same.
        total: of the sizes of the items.
        unit: of the sizes, in one word; B for bytes.
        has_background: whether class 0 of distributions is the background.
        names: what the classes are, where they come as numbers.
    """

    files: Sequence[Path]
    items: Callable[[], Iterable[Item]]
    total: int
    unit: str
    has_background: bool = True
    names: Sequence[str] = ()


def import_regions(
    source: RegionSource,
    output: Path,
    *,
    options: dict[str, Any],
    cuts_boxes: bool = False,
    bad_record_limit: float = 0.01,
) -> RegionStore:
    """Write a store of all records that can be used, unless the same one is there already.

    Args:
        output: the folder; one that was made of other files or options is refused.
        options: all that the records depend on beside the files, as JSON. The manifest shows them.
        cuts_boxes: whether boxes are cut at the edges of their image, and regions whose box is
            empty left out; they are counted.
        bad_record_limit: share of the records that may be unusable (at least 10 may).
    """
    if not 0.0 <= bad_record_limit <= 1.0:
        raise UserError(f"--bad_record_limit is {bad_record_limit}; give a share from 0 to 1")
    options = options | ({"cut_boxes": True} if cuts_boxes else {})
    key = _key_of(source, options)
    if output.exists():
        return _known_store(output, key)
    with sole_writer(output.with_name(f".{output.name}.lock"), output):
        if output.exists():  # another process has just made it
            return _known_store(output, key)
        folder = output.with_name(f".{output.name}.unfinished")
        _write(source, folder, key, cuts_boxes=cuts_boxes, bad_record_limit=bad_record_limit)
        os.rename(folder, output)
    return RegionStore(output)


def _write(
    source: RegionSource,
    folder: Path,
    key: dict[str, Any],
    *,
    cuts_boxes: bool,
    bad_record_limit: float,
) -> None:
    """Write the store into a folder of its own, or go on with what an earlier process wrote."""
    options = key["options"]
    writer = StoreWriter(folder, key)
    _read_all(source, writer, options["format"], cuts_boxes=cuts_boxes)
    progress = writer.progress
    _check_rejected(source, writer, bad_record_limit)
    writer.finish()
    if source.names:
        text = json.dumps(list(source.names), ensure_ascii=False, indent=0)
        (folder / NAMES_NAME).write_text(text, "utf-8")
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        **measure_arrays(map_arrays(folder, progress.num_images, progress.num_regions)),
        "feature_range": [progress.lowest, progress.highest],
        "has_background": source.has_background,
        "repeated": progress.num_repeated,
        "boxes_cut": progress.num_cut,
        "rejected": progress.num_rejected,
        "first_rejected": progress.rejected,
        "source": {**options, "files": [path.name for path in source.files[:20]]},
        "key": key,
        "files": _checksums(folder),
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    for name in (PROGRESS_NAME, IDS_NAME):
        (folder / name).unlink()


def _key_of(source: RegionSource, options: dict[str, Any]) -> dict[str, Any]:
    files = quick_fingerprint_of(path.absolute() for path in source.files)
    names = hashlib.sha256("\n".join(source.names).encode()).hexdigest()
    return {"version": VERSION, "files": files, "names": names, "options": options}


def _known_store(output: Path, key: dict[str, Any]) -> RegionStore:
    store = RegionStore(output)
    if store.manifest["key"] != json.loads(json.dumps(key)):
        raise UserError(
            f"{output} is there already, made of other files or with other options; delete it or "
            "choose another output"
        )
    logger.info("%s is up to date", output)
    return store


def _read_all(source: RegionSource, writer: StoreWriter, name: str, *, cuts_boxes: bool) -> None:
    """Read what an earlier process has not read."""
    start = writer.progress.num_items
    with tqdm(
        total=source.total,
        desc=name,
        unit=source.unit if source.unit == "B" else f" {source.unit}",
        unit_scale=source.unit == "B",
        mininterval=1,
    ) as progress:
        for item in _after(source.items(), start, progress):
            if item.repeated_id is not None and item.repeated_id.encode() in writer.seen:
                writer.progress.num_repeated += 1
            else:
                _read(item, writer, cuts_boxes=cuts_boxes)
            progress.update(item.size)
            writer.step()
            _check_hopeless(source, writer)


def _after(items: Iterable[Item], start: int, progress: tqdm) -> Iterator[Item]:
    """The items that are left, with those before counted as done."""
    items = iter(items)
    for item in itertools.islice(items, start):
        progress.update(item.size)
    progress.unpause()
    return items


def _read(item: Item, writer: StoreWriter, *, cuts_boxes: bool) -> None:
    try:
        image, num_cut = item.load(), 0
        if cuts_boxes:
            image, num_cut = cut_boxes(image)
        if isinstance(image.classes, list):
            numbers = [writer.number_of(name) for name in image.classes]
            image = dataclasses.replace(image, classes=numbers)
        writer.add(to_stored(image))
        writer.progress.num_cut += num_cut
    except Fault as fault:
        bad = BadSample(item.where, str(fault))
        if writer.progress.num_rejected < TOLERATED_RECORDS:
            logger.warning("skipped %s", bad)
        writer.reject(bad)


def _check_hopeless(source: RegionSource, writer: StoreWriter) -> None:
    """Stop early where nothing can be read at all, or names are given twice."""
    progress = writer.progress
    if source.names and progress.names:
        raise UserError(
            f"the records name their classes themselves, such as {progress.names[0]!r}; leave out "
            "--names"
        )
    if progress.num_rejected > TOLERATED_RECORDS and not progress.num_images:
        where, reason = progress.rejected[0]
        raise UserError(
            f"none of the first {progress.num_items} records can be used, first {where}: {reason}; "
            "check that the format is the right one"
        )


def _check_rejected(source: RegionSource, writer: StoreWriter, limit: float) -> None:
    progress = writer.progress
    if not progress.num_items:
        files = ", ".join(map(str, source.files[:3]))
        raise UserError(f"{files or 'the source'} holds no records")
    if not progress.num_rejected:
        return
    most = max(TOLERATED_RECORDS, limit * progress.num_items)
    if not progress.num_images or progress.num_rejected > most:
        where, reason = progress.rejected[0]
        raise UserError(
            f"{progress.num_rejected} of {progress.num_items} records cannot be used, first "
            f"{where}: {reason}; mend the files, or raise --bad_record_limit"
        )
    logger.warning("skipped %d of %d records", progress.num_rejected, progress.num_items)


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in (".npy", ".json")]
    paths = [path for path in paths if path.name not in (PROGRESS_NAME, MANIFEST_NAME)]
    sizes = {path: path.stat().st_size for path in paths}
    with tqdm(
        total=sum(sizes.values()), desc="checksums", unit="B", unit_scale=True, mininterval=1
    ) as progress:
        return {
            path.name: {"bytes": size, "sha256": fingerprint_of(path, progress.update)}
            for path, size in sizes.items()
        }


def read_names(path: Path) -> list[str]:
    """Names of classes by number, one a line; of synonyms with commas between the first counts."""
    names = []
    for where, line in read_lines(path):
        if isinstance(line, Fault):
            raise UserError(f"{where}: {line}; give names as UTF-8 text, one a line")
        names.append(line.split(",")[0].strip())
    if not names:
        raise UserError(f"{path} holds no names; give one a line")
    return names
