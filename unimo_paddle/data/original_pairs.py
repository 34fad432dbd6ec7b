"""The original's files of hypotheses and captions with the regions of their images.

A line holds a text as ids with their [CLS] and [SEP], and beside it all regions of its image, which
together exceed any memory. So only the texts are kept; regions stay in their file until they are
needed, and what is wrong with them is told then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unimo_paddle.data.fields import Sample
from unimo_paddle.data.images import Regions
from unimo_paddle.data.original_regions import parse_original_regions, whole_numbers
from unimo_paddle.data.records import (
    Fault,
    Folder,
    Source,
    gather,
    raw_lines,
    read_lines,
    split_line,
)
from unimo_paddle.data.text import CLS_ID, SEP_ID
from unimo_paddle.errors import BadSample, UserError

Record = TypeVar("Record")

SEPARATOR = ";"
FIRST_POSITION = 2
IMAGE_PREFIX_SIZE = 9  # characters before the number of a caption's image: coco_img_


@dataclass(frozen=True)
class Layout:
    """The fields of a line: how many there are, and at which places its regions are."""

    num_fields: int
    width: int
    height: int
    count: int
    boxes: int
    features: int

    def regions_in(self, fields: Sequence[str], class_probabilities: str = "") -> Regions:
        """Read the regions of a line; a ``Fault`` says what is wrong with them."""
        return parse_original_regions(
            fields[self.count],
            fields[self.boxes],
            fields[self.features],
            width=fields[self.width],
            height=fields[self.height],
            class_probabilities=class_probabilities or None,
        )


ENTAILMENT = Layout(14, width=7, height=8, count=9, boxes=10, features=11)
CAPTION = Layout(16, width=9, height=8, count=10, boxes=11, features=14)


@dataclass(frozen=True)
class StoredRegions:
    """The regions of one line, left in its file.

    Args:
        start, size: of the line, in bytes.
        where: file and number of the line.
    """

    path: Path
    start: int
    size: int
    where: str
    layout: Layout

    def encode(self, encode: Callable[[Regions], Sample]) -> Sample:
        """Read the regions and return what is made of them; a ``BadSample`` names the line."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                fields = split_line(file.read(self.size), SEPARATOR)
            if len(fields) != self.layout.num_fields:
                raise Fault(
                    f"{len(fields)} fields where {self.layout.num_fields} were: the file changed"
                )
            return encode(self.layout.regions_in(fields))
        except OSError as error:
            raise BadSample(self.where, f"cannot be read: {error.strerror}") from None
        except Fault as fault:
            raise BadSample(self.where, str(fault)) from None
        except BadSample as bad:
            raise BadSample(self.where, bad.reason) from None


@dataclass(frozen=True)
class OriginalHypothesis:
    """A line of the original's entailment files; ``label`` is the number of a class, or empty."""

    id: str
    image_id: str
    ids: tuple[int, ...]
    label: str
    regions: StoredRegions


@dataclass(frozen=True)
class OriginalCaption:
    """A line of the original's caption files; without ids where the caption is to be written."""

    id: str
    image_id: str
    ids: tuple[int, ...]
    regions: StoredRegions


def read_hypotheses(
    path: Path,
    parse: Callable[[OriginalHypothesis], Record],
    *,
    root: Path | None,
    bad_record_limit: float,
) -> Source[Record]:
    """Read entailment files; see ``data_files`` for ``path`` and ``root``.

    The 14 fields are image; id; label; ids; sentence ids; positions; _; width; height; regions;
    boxes; features; _; _. Sentence ids are not used.
    """

    def parse_fields(fields: list[str], regions: StoredRegions) -> Record:
        ids = parse_ids(fields[3], fields[5])
        return parse(OriginalHypothesis(fields[1], fields[0], ids, fields[2].strip(), regions))

    return _read(path, ENTAILMENT, parse_fields, root=root, bad_record_limit=bad_record_limit)


def read_captions(
    path: Path,
    parse: Callable[[OriginalCaption], Record],
    *,
    root: Path | None,
    bad_record_limit: float,
) -> Source[Record]:
    """Read caption files; see ``data_files`` for ``path`` and ``root``.

    The 16 fields are image, whose number has a prefix of 9 characters; id; ids; sentence ids;
    positions; _; _; _; height; width; regions; boxes; _; _; features; _.
    """

    def parse_fields(fields: list[str], regions: StoredRegions) -> Record:
        image_id = fields[0][IMAGE_PREFIX_SIZE:]
        if not image_id:
            raise Fault(f"image {fields[0]!r} is no prefix of 9 characters and a number")
        ids = parse_ids(fields[2], fields[4]) if fields[2].strip() else ()
        return parse(OriginalCaption(fields[1], image_id, ids, regions))

    return _read(path, CAPTION, parse_fields, root=root, bad_record_limit=bad_record_limit)


def read_objects(path: Path, *, bad_record_limit: float) -> dict[str, tuple[int, ...]]:
    """Read the names of the objects in each image, by the image's number.

    A line is image; ids; sentence ids; positions.
    """

    def parse(line: str) -> tuple[str, tuple[int, ...]]:
        fields = line.split(SEPARATOR)
        if len(fields) != 4:
            raise Fault(f"{len(fields)} fields with ; between them, not 4")
        return fields[0], parse_ids(fields[1], fields[3])

    return dict(gather(path, read_lines(path), parse, bad_record_limit=bad_record_limit))


def parse_ids(ids: str, positions: str) -> tuple[int, ...]:
    """Read ``[CLS] words [SEP]``, whose positions must count from 2."""
    numbers = whole_numbers(ids, "id")
    if len(numbers) < 2 or numbers[0] != CLS_ID or numbers[-1] != SEP_ID:
        raise Fault(f"ids {ids[:40]!r} do not go from [CLS] {CLS_ID} to [SEP] {SEP_ID}")
    expected = tuple(range(FIRST_POSITION, FIRST_POSITION + len(numbers)))
    if whole_numbers(positions, "position") != expected:
        raise Fault(f"positions {positions[:40]!r} of {len(numbers)} ids do not count from 2")
    return numbers


def data_files(path: Path, root: Path | None) -> list[Path]:
    """The file itself, or those that it lists: one a line, where the first line has no ``;``.

    Args:
        root: folder that listed paths are relative to, and inside; None is the list's own.
    """
    _, first = next(read_lines(path), ("", SEPARATOR))
    if isinstance(first, Fault) or SEPARATOR in first:
        return [path]
    folder = Folder(root or path.parent)
    files = []
    for where, line in read_lines(path):
        try:
            if isinstance(line, Fault):
                raise line
            if line.strip():
                files.append(folder.find(line.strip()))
        except Fault as fault:
            raise UserError(
                f"{where}: {fault}; mend the list, or set task.data.file_list_root to the folder "
                "that its paths are relative to"
            ) from None
    return files


def _read(
    path: Path,
    layout: Layout,
    parse: Callable[[list[str], StoredRegions], Record],
    *,
    root: Path | None,
    bad_record_limit: float,
) -> Source[Record]:
    lines = (line for file in data_files(path, root) for line in _read_fields(file, layout))
    return gather(path, lines, lambda line: parse(*line), bad_record_limit=bad_record_limit)


def _read_fields(path: Path, layout: Layout) -> Iterator[tuple[str, Any]]:
    """Each line's place, and its fields with its regions, or a fault."""
    start = 0
    for where, raw in raw_lines(path):
        regions = StoredRegions(path, start, len(raw), where, layout)
        start += len(raw)
        try:
            fields = split_line(raw, SEPARATOR)
            if len(fields) != layout.num_fields:
                raise Fault(f"{len(fields)} fields with ; between them, not {layout.num_fields}")
            yield where, (fields, regions)
        except Fault as fault:
            yield where, fault
