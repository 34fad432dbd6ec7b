"""Conceptual Captions: a table of captions and addresses, with the images that were fetched.

Whoever fetched the images named them in some way of their own: a pattern says how, from the number
of the row (``{row}``, from 0) and the address (``{md5}``, ``{crc32}``).
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, Record, one_line, parsed, read_text
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import UserError


def read_conceptual(path: Path, images: ImageFolder, pattern: str) -> Items:
    """``image`` and ``captions``, one, of each row ``caption<tab>address``."""
    _name(pattern, 0, "")
    rows = enumerate((where, line) for where, line in read_text(path) if line != "")

    def parse(item: tuple[int, str]) -> Record:
        row, line = item
        caption, tab, address = line.partition("\t")
        if not (tab and address.strip()):
            raise Fault(f"line is not a caption, a tab and an address: {line[:40]!r}")
        found = images.find(_name(pattern, row, address.strip()))
        return {"id": str(row), "image": found, "captions": [one_line(caption, "caption")]}

    return parsed(
        ((where, line if isinstance(line, Fault) else (row, line)) for row, (where, line) in rows),
        parse,
    )


def _name(pattern: str, row: int, address: str) -> str:
    data = address.encode("utf-8")
    try:
        return pattern.format(row=row, md5=hashlib.md5(data).hexdigest(), crc32=zlib.crc32(data))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"--image_name {pattern!r} is no pattern of {{row}}, {{md5}} and {{crc32}}; such as "
            "'{row:09d}.jpg'"
        ) from None
