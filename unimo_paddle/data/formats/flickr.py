"""Flickr8k and Flickr30k as they were first published: a file of captions, lists of images.

``Flickr8k.token.txt`` and ``results_20130124.token`` have a line ``name#number<tab>caption`` a
caption; ``captions.txt`` is the same with commas and quotes below the header ``image,caption``.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, one_line, read_entries, read_text
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import UserError

CSV_HEADER = ["image", "caption"]


class FlickrCaptions:
    """The captions of a file by image, and what is wrong with its lines.

    Args:
        path: a token file, or a table with commas.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.captions: dict[str, list[str]] = {}
        self.bad: list[tuple[str, Fault]] = []
        self._places: dict[str, str] = {}
        lines = list(read_text(path))
        is_table = bool(lines) and _cells(lines[0][1]) == CSV_HEADER
        for where, line in lines[1:] if is_table else lines:
            if line == "":
                continue
            try:
                if isinstance(line, Fault):
                    raise line
                name, caption = _row(line) if is_table else _token(line)
                self.captions.setdefault(name, []).append(one_line(caption, "caption"))
                self._places.setdefault(name, where)
            except Fault as fault:
                self.bad.append((where, fault))

    def read(self, images: ImageFolder, names: Collection[str] | None) -> Items:
        """``image`` and ``captions`` of the images in a list, in the order of the captions.

        Args:
            names: of the images; None reads all. Those without captions are items, too.
        """
        wanted = None if names is None else set(names)
        for name, captions in self.captions.items():
            if wanted is None or name in wanted:
                try:
                    found = images.find(name)
                    item = {"id": Path(name).stem, "image": found, "captions": captions}
                except Fault as fault:
                    item = fault
                yield self._places[name], item
        for name in sorted((wanted or set()) - self.captions.keys()):
            yield f"{self.path}", Fault(f"there is no caption of image {name!r}")


def read_names(path: Path) -> list[str]:
    """The images of a split, a name a line."""
    names = read_entries(path)
    if not names:
        raise UserError(f"{path} lists no images; give one name a line")
    return [name if Path(name).suffix else f"{name}.jpg" for name in names]


def _token(line: str) -> tuple[str, str]:
    name, tab, caption = line.partition("\t")
    image, mark, number = name.rpartition("#")
    if not (tab and mark and image and number.isdigit()):
        raise Fault(f"line is not name#number, a tab and a caption: {line[:40]!r}")
    return image, caption


def _row(line: str) -> tuple[str, str]:
    cells = _cells(line)
    if len(cells) != len(CSV_HEADER):
        raise Fault(f"{len(cells)} cells for the columns {', '.join(CSV_HEADER)}: {line[:40]!r}")
    return cells[0], cells[1]


def _cells(line: str | Fault) -> list[str]:
    if isinstance(line, Fault):
        return []
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return []
