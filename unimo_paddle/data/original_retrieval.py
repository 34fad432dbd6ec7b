"""Image-text retrieval in the original's files: captions as ids, regions a line an image.

A file of captions has lines ``ids;sentence ids;positions;image;caption id``. Feature files have
lines of 7 columns with tabs between: name of the image, its two sizes, number of boxes, then boxes,
features and class probabilities in base64. A file of images has lines ``name<tab>id``.

The features of a data set are tens of gigabytes, so a feature file is looked through once, and an
image's regions are read when they are needed.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from unimo_paddle.data.images import Regions
from unimo_paddle.data.original_regions import (
    BOX_NUMBERS,
    MAX_REGIONS,
    parse_original_regions,
    whole_number,
    whole_numbers,
)
from unimo_paddle.data.records import Fault, Folder, Source, gather, read_lines
from unimo_paddle.data.text import CLS_ID, SEP_ID
from unimo_paddle.errors import BadSample, UserError

SIZES = ("width", "height")
COLUMNS = ("image name", "size", "size", "number of boxes", "boxes", "features", "probabilities")
FIELDS = ("ids", "sentence ids", "positions", "image", "caption id")


@dataclass(frozen=True)
class RegionLine:
    """Where the regions of an image stand.

    Args:
        name: of the image.
        path, number, offset, size: the file, the line in it, where that begins, and its bytes.
        size_columns: what the second and the third column are: width and height, or the other way.
    """

    name: str
    path: Path
    number: int
    offset: int
    size: int
    size_columns: tuple[str, str] = SIZES

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.path}:{self.number}"

    def load(self) -> Regions:
        """Read the regions."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                columns = _columns_of(file.read(self.size))
            sizes = dict(zip(self.size_columns, columns[1:3], strict=True))
            return parse_original_regions(*columns[3:6], **sizes)
        except OSError as error:
            raise BadSample(self.where, f"cannot be read: {error.strerror}") from None
        except Fault as fault:
            raise BadSample(self.where, str(fault)) from None


@dataclass(frozen=True)
class CaptionLine:
    """A caption: ids with their [CLS] and [SEP], the name of its image, its number."""

    ids: tuple[int, ...]
    image: str
    caption_id: int


def read_region_lines(
    path: Path | str,
    *,
    feature_size: int,
    size_columns: tuple[str, str] = SIZES,
    only: Container[str] | None = None,
    bad_record_limit: float = 0.01,
) -> dict[str, RegionLine]:
    """Find the images of a feature file, or of all files in a folder and below it, by name.

    Args:
        feature_size: numbers a region.
        only: names of the images wanted; others are passed over, which is no fault. None: all.
        bad_record_limit: share of the lines that may be rejected (at least 10 may).
    """
    path = Path(path)
    files = _files_of(path)
    seen: dict[str, str] = {}
    place = _Place()

    def parse(where: str) -> RegionLine:
        name = _check_columns(_columns_of(place.line), feature_size)
        if name in seen:
            raise Fault(f"image {name!r} occurred before, in {seen[name]}")
        seen[name] = where
        return RegionLine(
            name, place.path, place.number, place.offset, len(place.line), size_columns
        )

    lines = gather(path, place.walk(files), parse, bad_record_limit=bad_record_limit)
    found = {line.name: line for line in lines if only is None or line.name in only}
    if not found:
        raise UserError(f"{path} holds none of the images in task.data.image_ids; check both")
    return found


class _Place:
    """The line at hand of files that are walked through."""

    def __init__(self) -> None:
        self.path = Path()
        self.number = self.offset = 0
        self.line = b""

    def walk(self, files: list[Path]) -> Iterator[tuple[str, str]]:
        """Each line's name, twice as ``gather`` wants it; the line is at hand meanwhile."""
        for self.path in files:
            self.offset = 0
            try:
                with self.path.open("rb") as file:
                    for self.number, self.line in enumerate(file, 1):
                        yield (f"{self.path}:{self.number}",) * 2
                        self.offset += len(self.line)
            except OSError as error:
                raise UserError(
                    f"feature file {self.path} cannot be read: {error.strerror}; check the path"
                ) from None


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    folder = Folder(path)
    try:
        files = sorted(
            folder.find(str(file.relative_to(path)))
            for file in path.rglob("*")
            if file.is_file() and not file.name.startswith(".")
        )
    except Fault as fault:
        raise UserError(f"task.data.features: {path}: {fault}; copy the file") from None
    if not files:
        raise UserError(f"task.data.features: {path} is no file and no folder with files")
    return files


def _columns_of(line: bytes) -> list[str]:
    try:
        columns = line.decode("utf-8").rstrip("\r\n").split("\t")
    except UnicodeDecodeError:
        raise Fault("line is not UTF-8 text") from None
    if len(columns) != len(COLUMNS):
        raise Fault(f"{len(columns)} columns, expected 7: {', '.join(COLUMNS)}")
    return columns


def _check_columns(columns: list[str], feature_size: int) -> str:
    """Check all that can be told without decoding; return the image's name."""
    name, first, second, count, boxes, features, probabilities = columns
    name = name.strip()
    if not name:
        raise Fault("the image has no name")
    for size in (first, second):
        if not whole_number(size, "image size"):
            raise Fault(f"image size is {first} and {second}; both must be above 0")
    number = whole_number(count, "number of boxes")
    if not 1 <= number <= MAX_REGIONS:
        raise Fault(f"number of boxes is {number}; it must lie in 1 .. {MAX_REGIONS}")
    _check_size(boxes, "boxes", number, BOX_NUMBERS)
    _check_size(features, "features", number, feature_size)
    if probabilities:
        _check_size(probabilities, "class probabilities", number)
    return name


def _check_size(text: str, what: str, rows: int, width: int | None = None) -> None:
    """Compare the bytes that base64 stands for with the rows that there should be."""
    if len(text) % 4 or not text:
        raise Fault(f"{what} are not base64: {len(text)} characters, no multiple of 4")
    size = len(text) // 4 * 3 - text[-2:].count("=")
    if width is None and size % (4 * rows):
        raise Fault(f"{what} of {size} bytes do not fill {rows} rows of float32")
    if width is not None and size != 4 * rows * width:
        raise Fault(f"{what} of {size} bytes do not fill {rows} rows of {width} float32")


def read_captions(
    path: Path | str,
    *,
    images: Container[str],
    vocab_size: int,
    first_position: int,
    bad_record_limit: float = 0.01,
) -> Source[CaptionLine]:
    """Read a file of captions.

    Args:
        images: names of those that there are features of.
        vocab_size: ids lie below it.
        first_position: of the text. Positions are made anew, so others in the file are a fault.
        bad_record_limit: share of the lines that may be rejected (at least 10 may).
    """
    path = Path(path)
    seen: set[int] = set()

    def parse(line: str) -> CaptionLine:
        caption = _parse_caption(line, vocab_size, first_position)
        if caption.image not in images:
            raise Fault(f"image {caption.image!r} is not among the features")
        if caption.caption_id in seen:
            raise Fault(f"caption id {caption.caption_id} occurred before")
        seen.add(caption.caption_id)
        return caption

    return gather(path, read_lines(path), parse, bad_record_limit=bad_record_limit)


def _parse_caption(line: str, vocab_size: int, first_position: int) -> CaptionLine:
    fields = line.split(";")
    if len(fields) != len(FIELDS):
        raise Fault(f"{len(fields)} fields, expected 5 with ';' between: {', '.join(FIELDS)}")
    ids, sentences, positions = (
        whole_numbers(text, what) for text, what in zip(fields[:3], FIELDS[:3], strict=True)
    )
    if len(ids) < 2 or ids[0] != CLS_ID or ids[-1] != SEP_ID:
        raise Fault(f"ids {fields[0][:40]!r} do not begin with {CLS_ID} and end with {SEP_ID}")
    if max(ids) >= vocab_size:
        raise Fault(f"id {max(ids)} is not below model.vocab_size {vocab_size}")
    if len(sentences) != len(ids):
        raise Fault(f"{len(sentences)} sentence ids for {len(ids)} ids")
    if positions != tuple(range(first_position, first_position + len(ids))):
        raise Fault(
            f"positions {fields[2][:40]!r} do not count {len(ids)} ids from {first_position}"
        )
    image = fields[3].strip()
    return CaptionLine(ids, image, whole_number(fields[4], "caption id"))


def read_image_ids(path: Path | str, *, bad_record_limit: float = 0.01) -> dict[str, int]:
    """Read the ids of images by name."""
    path = Path(path)
    found: dict[str, int] = {}
    ids: set[int] = set()

    def parse(line: str) -> None:
        fields = line.split("\t")
        if len(fields) != 2 or not fields[0].strip():
            raise Fault(f"line is not name<tab>id: {line[:40]!r}")
        name, number = fields[0].strip(), whole_number(fields[1], "image id")
        if name in found or number in ids:
            raise Fault(f"image {name!r} or its id {number} occurred before")
        found[name] = number
        ids.add(number)

    gather(path, read_lines(path), parse, bad_record_limit=bad_record_limit)
    return found
