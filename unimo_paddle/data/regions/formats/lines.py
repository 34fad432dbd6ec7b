"""Lines with arrays in base64: bottom-up attention's and LXMERT's TSV, and the original's files.

Bottom-up attention (Anderson et al., 2018) writes image_id, image_w, image_h, num_boxes, boxes,
features; LXMERT (Tan and Bansal, 2019) writes img_id, img_h, img_w, objects_id, objects_conf,
attrs_id, attrs_conf, num_boxes, boxes, features. There is no header. Arrays are little-endian:
float32, and int64 for ids. Attributes are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from unimo_paddle.data.images import Regions
from unimo_paddle.data.original_pairs import (
    CAPTION,
    ENTAILMENT,
    IMAGE_PREFIX_SIZE,
    SEPARATOR,
    Layout,
)
from unimo_paddle.data.original_regions import decode_rows, parse_original_regions, whole_number
from unimo_paddle.data.records import Fault, raw_lines, split_line
from unimo_paddle.data.regions.formats.options import SourceOptions
from unimo_paddle.data.regions.importing import Item, RegionSource
from unimo_paddle.data.regions.layout import ImageRegions
from unimo_paddle.errors import UserError

BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
RETRIEVAL_COLUMNS = 7  # of the original's feature files, with tabs between
_CAPTION_PROBABILITIES = 12  # field of the original's caption files


def total_size(files: Sequence[Path]) -> int:
    """Bytes of files."""
    try:
        return sum(path.stat().st_size for path in files)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read: {error.strerror}; check the path"
        ) from None


def open_tsv(files: Sequence[Path], options: SourceOptions) -> RegionSource:
    """Bottom-up attention's or LXMERT's lines; which, is told by the number of columns."""

    def items() -> Iterator[Item]:
        for where, line in chain.from_iterable(map(raw_lines, files)):
            yield Item(where, partial(_parse_tsv, line, options), len(line))

    # LXMERT's classes and distributions of this detector leave the background out and in.
    return RegionSource(files, items, total_size(files), "B")


def _parse_tsv(line: bytes, options: SourceOptions) -> ImageRegions:
    columns = split_line(line, "\t")
    names = {len(BOTTOM_UP): BOTTOM_UP, len(LXMERT): LXMERT}.get(len(columns))
    if names is None:
        hint = {2: "vinvl", 3: "vinvl", RETRIEVAL_COLUMNS: "original"}.get(len(columns))
        other = f"; --format {hint} reads such files" if hint else ""
        raise Fault(
            f"{len(columns)} columns with tabs between, expected {len(BOTTOM_UP)} "
            f"({', '.join(BOTTOM_UP)}) or {len(LXMERT)} ({', '.join(LXMERT)}){other}"
        )
    fields = dict(zip(names, columns, strict=True))
    prefix = "image" if names is BOTTOM_UP else "img"
    count = whole_number(fields["num_boxes"], "num_boxes")
    classes = confidences = None
    if names is LXMERT:
        classes = decode_rows(fields["objects_id"], "objects_id", count, dtype="<i8", width=1)[:, 0]
        confidences = decode_rows(fields["objects_conf"], "objects_conf", count, width=1)[:, 0]
    return ImageRegions(
        image_id=options.name(fields[f"{prefix}_id"].strip()),
        features=decode_rows(fields["features"], "features", count),
        boxes=decode_rows(fields["boxes"], "boxes", count),
        width=whole_number(fields[f"{prefix}_w"], f"{prefix}_w"),
        height=whole_number(fields[f"{prefix}_h"], f"{prefix}_h"),
        classes=classes,
        confidences=confidences,
    )


def open_original(files: Sequence[Path], options: SourceOptions) -> RegionSource:
    """The original's feature files (7 columns), entailment (14 fields) and captions (16).

    The last two hold an image with each of its sentences; it is read once.
    """

    def items() -> Iterator[Item]:
        for where, line in chain.from_iterable(map(raw_lines, files)):
            parse, image_id = _original_parser(line, options)
            yield Item(where, parse, len(line), image_id)

    return RegionSource(files, items, total_size(files), "B")


def _original_parser(line: bytes, options: SourceOptions) -> tuple[partial, str | None]:
    """What reads a line, and the image's name where images come again and again."""
    if line.count(b"\t") >= RETRIEVAL_COLUMNS - 1:
        return partial(_parse_retrieval, line, options), None
    layout = {14: ENTAILMENT, 16: CAPTION}.get(line.count(b";") + 1)
    if layout is None:
        return partial(_parse_retrieval, line, options), None
    prefix = IMAGE_PREFIX_SIZE if layout is CAPTION else 0
    name = line[: line.index(b";")].decode("utf-8", "replace")[prefix:]
    image_id = options.name(name.strip())
    return partial(_parse_pair, line, layout, image_id), image_id


def _parse_retrieval(line: bytes, options: SourceOptions) -> ImageRegions:
    columns = split_line(line, "\t")
    if len(columns) != RETRIEVAL_COLUMNS:
        raise Fault(
            f"{len(columns)} columns with tabs between; the original has {RETRIEVAL_COLUMNS}, or "
            f"{ENTAILMENT.num_fields} or {CAPTION.num_fields} fields with ; between"
        )
    sizes = dict(zip(options.size_columns, columns[1:3], strict=True))
    regions = parse_original_regions(
        *columns[3:6], **sizes, class_probabilities=columns[6].strip() or None
    )
    return _image(options.name(columns[0].strip()), regions)


def _parse_pair(line: bytes, layout: Layout, image_id: str) -> ImageRegions:
    fields = split_line(line, SEPARATOR)
    probabilities = fields[_CAPTION_PROBABILITIES].strip() if layout is CAPTION else ""
    return _image(image_id, layout.regions_in(fields, probabilities))


def _image(image_id: str, regions: Regions) -> ImageRegions:
    return ImageRegions(
        image_id=image_id,
        features=regions.features,
        boxes=regions.boxes,
        width=regions.width,
        height=regions.height,
        class_probabilities=regions.class_probabilities,
    )
