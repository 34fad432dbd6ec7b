"""Records from files: image-text pairs, plain text, image folders.

Records that cannot be used are left out, as ``data.records`` describes.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle.data.images import Regions
from unimo_paddle.data.objects import LabelledObject, parse_objects
from unimo_paddle.data.records import (
    MAX_TEXT_BYTES,
    Fault,
    Folder,
    Source,
    gather,
    parse_object,
    read_lines,
    text_of,
    texts_of,
)
from unimo_paddle.data.regions import RegionEntry, RegionStore, RegionStores
from unimo_paddle.data.regions.lookup import names_of
from unimo_paddle.data.shards import (
    IMAGE_SUFFIXES,
    index_of,
    is_sharded,
    list_images,
    list_shards,
    texts_of_shard,
)
from unimo_paddle.errors import BadSample, UserError


@dataclass(frozen=True)
class PairRecord:
    """One image with its captions.

    Args:
        image: absolute path of the image file; with regions of a store there need be none.
        captions: at least one, none empty.
        regions: a detector's output for the image, or where it lies in a store.
        tags: names of objects in the image.
        objects: labelled boxes, those behind first.
        graph: scene graph as it stands in the file.
        group: number of the image; records of the same file share it.
    """

    image: Path
    captions: tuple[str, ...]
    regions: Regions | RegionEntry | None = None
    tags: tuple[str, ...] | None = None
    objects: tuple[LabelledObject, ...] = ()
    graph: dict[str, Any] | None = None
    group: int = field(kw_only=True)


def read_pairs(
    path: Path | str, *, stores: RegionStores | None = None, bad_record_limit: float = 0.01
) -> Source[PairRecord]:
    """Read image-text pairs from a file of JSON lines, or from tar shards (``data.shards``).

    A line is ``{"image": path, "captions": [text, ...]}`` with optional ``tags`` (list of text),
    ``objects`` (list of ``{"box": [x1, y1, x2, y2], "names": [text, ...]}``, the box as shares of
    width and height, names where there are any, those behind first), ``graph`` (object) and
    ``regions`` (``features`` and ``class_probabilities`` as nested lists or base64 of
    little-endian float32, ``boxes`` in pixels, ``width``, ``height``). Image paths are relative to
    the file's folder and stay inside it. Other keys are left alone.

    Args:
        stores: hold the regions of images whose lines have none; their files need not exist.
        bad_record_limit: share of the lines that may be rejected (at least 10 may).
    """
    path = Path(path)
    folder = Folder(path.parent)
    groups: dict[Path, int] = {}

    def parse(record: dict[str, Any]) -> PairRecord:
        regions = parse_regions(record["regions"]) if record.get("regions") else None
        if stores is None:
            image = folder.find(text_of(record, "image"))
        else:
            regions = regions or stores.find(record)
            name, _ = names_of(record)
            image = folder.place(str(record.get("image") or name))
        return PairRecord(
            image=image,
            captions=texts_of(record, "captions", required=True),
            regions=regions,
            tags=texts_of(record, "tags") or None,
            objects=parse_objects(record.get("objects")),
            graph=_parse_graph(record.get("graph")),
            group=groups.setdefault(image, len(groups)),
        )

    if is_sharded(path):
        return gather(path, read_samples(path), parse, bad_record_limit=bad_record_limit)
    return gather(
        path,
        read_lines(path),
        lambda line: parse(parse_object(line)),
        bad_record_limit=bad_record_limit,
    )


def read_samples(pattern: Path | str) -> Iterator[tuple[str, dict[str, Any] | Fault]]:
    """Shard with member, and record of every sample of shards, as a line of pairs would hold it.

    ``image`` is relative to the folder of the first shard.
    """
    shards = list_shards(pattern)
    root = shards[0].parent
    for shard in tqdm(shards, desc="shards", unit="shard", mininterval=1, disable=len(shards) < 2):
        said, folder = texts_of_shard(shard), os.path.relpath(shard, root)
        for name, texts in zip(index_of(shard).image_names, said["of_images"], strict=True):
            try:
                record: dict[str, Any] | Fault = _said_of_image(texts)
                record["image"] = f"{folder}/{name}"
            except Fault as fault:
                record = fault
            yield f"{shard}: {name}", record
        for name in said["alone"]:
            yield f"{shard}: {name}", Fault("there is no image for it")


def _said_of_image(texts: dict[str, str | None]) -> dict[str, Any]:
    for suffix, text in texts.items():
        if text is None:
            raise Fault(f"its {suffix} is not UTF-8 text of at most {MAX_TEXT_BYTES} bytes")
    record = parse_object(texts[".json"]) if ".json" in texts else {}
    if "captions" not in record:
        # Not where Unicode sees other ends of lines: those are white space within a caption.
        lines = [line for line in texts.get(".txt", "").split("\n") if line.strip()]
        record["captions"] = lines or [record[key] for key in ("caption",) if key in record]
    if not record["captions"]:
        raise Fault("nothing is said of it: there is no line in a .txt and no caption in a .json")
    return record


@dataclass(frozen=True)
class LabelledImage:
    """An image without captions, and the labelled objects that it shows, those behind first."""

    image: Path
    objects: tuple[LabelledObject, ...]


@dataclass(frozen=True)
class StoredImage:
    """An image without captions, and where its regions lie; there need be no file of it."""

    image: Path
    regions: RegionEntry


# What names an image, with or without what is known of it.
ImageRecord = PairRecord | LabelledImage | StoredImage | Path


def labels_path(folder: Path) -> Path:
    """Where the labels of a folder of images are looked for."""
    return folder / "objects.jsonl"


def read_labelled_images(
    folder: Path, labels: Path | None = None, *, bad_record_limit: float = 0.01
) -> dict[Path, LabelledImage]:
    """Read labelled images by their paths from a file of JSON lines.

    A line is ``{"image": path, "objects": [...]}``, the path relative to the folder of images,
    objects as in ``read_pairs``. Of several lines for an image the last one counts.

    Args:
        labels: the file; None is ``labels_path`` of the folder.
        bad_record_limit: share of the lines that may be rejected (at least 10 may).
    """
    inside, path = Folder(folder), labels or labels_path(folder)

    def parse(line: str) -> LabelledImage:
        record = parse_object(line)
        image = inside.find(text_of(record, "image"))
        return LabelledImage(image, parse_objects(record.get("objects")))

    found = gather(path, read_lines(path), parse, bad_record_limit=bad_record_limit)
    return {item.image: item for item in found}


def read_stored_images(folder: Path | str) -> list[StoredImage]:
    """All images of a store of regions, in its order."""
    store = RegionStore(folder)
    return [StoredImage(Path(name), store.entry(i)) for i, name in enumerate(store.image_ids())]


def read_statements(
    paths: Iterable[Path | str], *, bad_record_limit: float = 0.01
) -> list[PairRecord]:
    """Read what is asked and said of images; each image becomes one record, with all of it.

    A line is ``{"image": path, "question": text, "answer": text}`` (or ``answers``, of which the
    commonest counts) or ``{"image": path, "hypothesis": text, "label": text}``, as the tasks on
    questions and on entailment read them, with optional ``objects``. A statement is the text with
    the answer or label after it.

    Args:
        bad_record_limit: share of a file's lines that may be rejected (at least 10 may).
    """
    found: dict[Path, list[_Statement]] = {}
    for path in map(Path, paths):
        parse = functools.partial(_parse_statement, folder=Folder(path.parent))
        for item in gather(path, read_lines(path), parse, bad_record_limit=bad_record_limit):
            found.setdefault(item.image, []).append(item)
    return [
        PairRecord(
            image,
            tuple(item.text for item in said),
            objects=next((item.objects for item in said if item.objects), ()),
            group=group,
        )
        for group, (image, said) in enumerate(found.items())
    ]


def read_texts(
    paths: Path | str | Iterable[Path | str],
    *,
    unit: str = "line",
    min_words: int = 1,
    bad_record_limit: float = 0.01,
) -> Source[str]:
    """Read plain text from UTF-8 files.

    Args:
        unit: "line": each line is a record; "paragraph": lines up to an empty line are joined.
        min_words: shorter records (headings, empty lines) are passed over, which is no fault.
        bad_record_limit: share of a file's lines that may be rejected (at least 10 may).
    """
    if unit not in ("line", "paragraph"):
        raise UserError(f"unit {unit!r} of a text source is unknown; choose line or paragraph")
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    records: list[str] = []
    rejected: list[BadSample] = []
    for path in map(Path, paths):
        source = gather(path, read_lines(path), _parse_text, bad_record_limit=bad_record_limit)
        rejected.extend(source.rejected)
        texts = source.records if unit == "line" else _join_paragraphs(source.records)
        records.extend(text for text in texts if len(text.split()) >= max(1, min_words))
    if not records:
        raise UserError(
            f"text source {', '.join(map(str, paths)) or '(no file)'} holds no {unit} of at least "
            f"{min_words} words"
        )
    return Source(records, tuple(rejected))


def read_images(folder: Path | str) -> Source[Path]:
    """List the images of shards, or the files in and below a folder in order of their names.

    Hidden files are none: what is not written to its end yet, or what a system keeps beside files.
    """
    folder = Path(folder)
    if is_sharded(folder):
        return Source(list_images(folder))
    if not folder.is_dir():
        raise UserError(f"image folder {folder} does not exist; check the path")
    inside = Folder(folder)
    names = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not names:
        raise UserError(f"image folder {folder} holds no {', '.join(IMAGE_SUFFIXES)} file")
    return gather(folder, ((name, name) for name in names), inside.find, bad_record_limit=0.01)


@dataclass(frozen=True)
class _Statement:
    """What one line says of an image."""

    image: Path
    text: str
    objects: tuple[LabelledObject, ...]


def _parse_statement(line: str, folder: Folder) -> _Statement:
    record = parse_object(line)
    image = folder.find(text_of(record, "image"))
    if "hypothesis" in record:
        text = f"{text_of(record, 'hypothesis')} {text_of(record, 'label')}"
    elif "answers" in record:
        answers = [*filter(None, texts_of(record, "answers", required=True, may_be_empty=True))]
        if not answers:
            raise Fault("all 'answers' are empty")
        text = f"{text_of(record, 'question')} {Counter(answers).most_common(1)[0][0]}"
    else:
        text = f"{text_of(record, 'question')} {text_of(record, 'answer')}"
    return _Statement(image, text, parse_objects(record.get("objects")))


def _parse_text(line: str) -> str:
    if len(line) > MAX_TEXT_BYTES:
        raise Fault(f"line of {len(line)} characters exceeds {MAX_TEXT_BYTES}")
    return line.strip()


def _join_paragraphs(lines: Sequence[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line:
            paragraph.append(line)
        elif paragraph:
            yield " ".join(paragraph)
            paragraph = []


def _parse_graph(graph: Any) -> dict[str, Any] | None:
    if graph is not None and not isinstance(graph, dict):
        raise Fault(f"'graph' must be an object, not {str(graph)[:40]!r}")
    return graph


def parse_regions(regions: Any) -> Regions:
    """Read a detector's output as it stands in a JSON record; see ``read_pairs``."""
    if not isinstance(regions, dict):
        raise Fault(f"'regions' must be an object, not {str(regions)[:40]!r}")
    missing = {"features", "boxes", "width", "height"} - regions.keys()
    if missing:
        raise Fault(f"'regions' lacks {', '.join(sorted(missing))}")
    for key in ("width", "height"):
        if isinstance(regions[key], bool) or not isinstance(regions[key], (int, float)):
            raise Fault(f"'regions.{key}' must be a number, not {str(regions[key])[:40]!r}")
    boxes = _parse_array(regions["boxes"], "boxes", num_rows=None)
    probabilities = regions.get("class_probabilities")
    return Regions(
        features=_parse_array(regions["features"], "features", num_rows=len(boxes)),
        boxes=boxes,
        width=regions["width"],
        height=regions["height"],
        class_probabilities=None
        if probabilities is None
        else _parse_array(probabilities, "class_probabilities", num_rows=len(boxes)),
    )


def _parse_array(value: Any, key: str, *, num_rows: int | None) -> np.ndarray:
    """Nested lists, or base64 of little-endian float32 split into ``num_rows`` rows (4 a box)."""
    if isinstance(value, list):
        try:
            return np.asarray(value, np.float32)
        except (ValueError, TypeError, OverflowError):
            raise Fault(f"'regions.{key}' is not a table of numbers") from None
    if not isinstance(value, str):
        raise Fault(f"'regions.{key}' must be nested lists or base64 text")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Fault(f"'regions.{key}' is not base64") from None
    row_size = 16 if num_rows is None else 4
    num_rows = len(data) // row_size if num_rows is None else num_rows
    if not num_rows or len(data) % (4 * num_rows):
        raise Fault(f"'regions.{key}' of {len(data)} bytes does not fill {num_rows} rows")
    return np.frombuffer(data, "<f4").reshape(num_rows, -1)
