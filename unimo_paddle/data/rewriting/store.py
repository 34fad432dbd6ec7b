"""The file of rewritten captions: arrays in one safetensors file, mapped into memory.

A rewrite is a caption of the corpus (``bases``) of which characters ``starts`` to ``ends`` give way
to a text: a changed word keeps the rest, a caption of another image needs no text at all. That
makes some 20 bytes a rewrite, and shows what was changed. Of N images with C captions and R
rewrites the file holds

    captions_of   int64 [N + 1]   the first caption of each image
    caption_ends  int64 [C + 1]   where each caption begins in ``caption_bytes``, UTF-8
    rewrites_of   int64 [C + 1]   the first rewrite of each caption: negatives, then positives
    texts_of      int64 [C + 1]   where the texts of its rewrites begin in ``text_bytes``, UTF-8
    bases         int32 [R]       number of the caption that is changed
    starts, ends  uint16 [R]      characters of it that are replaced
    sizes         uint16 [R]      bytes of the text in their place
    kinds         uint8 [R]       place in KINDS
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from unimo_paddle.data.rewriting.changes import CHANGES
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.errors import UserError

VERSION = 1
SENTENCE, PARAPHRASE, CAPTION = "sentence", "paraphrase", "caption"
NEGATIVE_KINDS = (*CHANGES, SENTENCE)
POSITIVE_KINDS = (PARAPHRASE, CAPTION)
KINDS = (*NEGATIVE_KINDS, *POSITIVE_KINDS)
MAX_CHARACTERS = 2**16 - 1  # of a caption that is changed, and bytes of a text put in

_TYPES = {
    "captions_of": "<i8",
    "caption_ends": "<i8",
    "rewrites_of": "<i8",
    "texts_of": "<i8",
    "bases": "<i4",
    "starts": "<u2",
    "ends": "<u2",
    "sizes": "<u2",
    "kinds": "|u1",
    "caption_bytes": "|u1",
    "text_bytes": "|u1",
}
_NAMES = {"<i8": "I64", "<i4": "I32", "<u2": "U16", "|u1": "U8"}
# Arrays of a block, in the order of captions; the offsets among them begin at 0 in each block.
_OFFSETS = {"rewrites_of", "texts_of"}
_BLOCK = ("rewrites_of", "texts_of", "bases", "starts", "ends", "sizes", "kinds", "text_bytes")
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Row:
    """A rewrite as it is stored: a caption of the corpus with characters replaced by a text."""

    kind: str
    base: int
    start: int = 0
    end: int = 0
    text: str = ""


@dataclass(frozen=True)
class Rewrite:
    """A rewritten caption; characters ``start`` to ``end`` of the text are what was put in."""

    text: str
    kind: str
    start: int
    end: int


def fingerprint(records: Sequence[PairRecord]) -> str:
    """What tells one pair file from another: a checksum of its captions, in order, by image."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps([record.group, *record.captions]).encode())
    return digest.hexdigest()


def save_block(path: Path, captions: Iterable[Sequence[Row]]) -> None:
    """Write the rewrites of some captions that follow each other."""
    rewrites_of, texts_of, rows, texts = [0], [0], [], []
    for caption_rows in captions:
        encoded = [row.text.encode() for row in caption_rows]
        rows.extend(caption_rows)
        texts.extend(encoded)
        rewrites_of.append(len(rows))
        texts_of.append(texts_of[-1] + sum(map(len, encoded)))
    values = {
        "rewrites_of": rewrites_of,
        "texts_of": texts_of,
        "bases": [row.base for row in rows],
        "starts": [row.start for row in rows],
        "ends": [row.end for row in rows],
        "sizes": [len(text) for text in texts],
        "kinds": [KINDS.index(row.kind) for row in rows],
        "text_bytes": np.frombuffer(b"".join(texts), np.uint8),
    }
    save_file({name: np.asarray(value, _TYPES[name]) for name, value in values.items()}, path)


def join_blocks(
    path: Path, blocks: Sequence[Path], records: Sequence[PairRecord], metadata: dict[str, Any]
) -> None:
    """Write the whole file from blocks, of which one at a time is in memory."""
    captions_of = np.cumsum([0, *(len(record.captions) for record in records)])
    texts = [caption.encode() for record in records for caption in record.captions]
    own = {
        "captions_of": captions_of.astype("<i8"),
        "caption_ends": np.cumsum([0, *map(len, texts)]).astype("<i8"),
        "caption_bytes": np.frombuffer(b"".join(texts), np.uint8),
    }
    lengths = {name: len(array) for name, array in own.items()} | dict.fromkeys(_BLOCK, 0)
    counts = np.zeros(len(KINDS), np.int64)
    for block in blocks:
        arrays = load_file(block)
        counts += np.bincount(arrays["kinds"], minlength=len(KINDS))
        for name in _BLOCK:
            lengths[name] += len(arrays[name]) - (name in _OFFSETS)
    for name in _OFFSETS:
        lengths[name] += 1
    counts = dict(zip(KINDS, map(int, counts), strict=True))
    about = {"version": VERSION, "fingerprint": fingerprint(records), "counts": counts}
    with path.open("wb") as file:
        file.write(_header(lengths, about | metadata))
        for name in _TYPES:
            if name in own:
                file.write(own[name].tobytes())
            else:
                _write_joined(file, name, blocks)


def _write_joined(file: Any, name: str, blocks: Sequence[Path]) -> None:
    total = 0
    for block in blocks:
        values = load_file(block)[name]
        if name in _OFFSETS:
            file.write((values[:-1] + total).astype(_TYPES[name]).tobytes())
            total += int(values[-1])
        else:
            file.write(values.tobytes())
    if name in _OFFSETS:
        file.write(np.array([total], _TYPES[name]).tobytes())


def _header(lengths: dict[str, int], metadata: dict[str, Any]) -> bytes:
    """The head of a safetensors file: its size, and JSON that says where each array lies."""
    header: dict[str, Any] = {"__metadata__": {"rewriting": json.dumps(metadata)}}
    begin = 0
    for name, dtype in _TYPES.items():
        end = begin + lengths[name] * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": [lengths[name]],
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class RewrittenCaptions:
    """Rewritten captions of a pair file, read at random: only what is asked for is loaded.

    Args:
        path: written by ``tools/prepare_data.py rewrite``.
        records: the pairs that are trained on; others than those of the file are refused.
    """

    def __init__(self, path: Path | str, records: Sequence[PairRecord] | None = None) -> None:
        self.path = Path(path)
        self.metadata, arrays = _map(self.path)
        self._arrays = arrays
        if records is not None and self.metadata["fingerprint"] != fingerprint(records):
            raise UserError(
                f"{path} was made from other captions than the pairs that are read now; make it "
                "again with tools/prepare_data.py rewrite"
            )

    def __len__(self) -> int:
        """The number of records."""
        return len(self._arrays["captions_of"]) - 1

    def num_captions(self, record: int) -> int:
        """The number of captions of a record."""
        first, last = self._arrays["captions_of"][record : record + 2]
        return int(last - first)

    def negatives(self, record: int, caption: int) -> list[Rewrite]:
        """False captions of the image, kinds taking turns: the first are as mixed as all."""
        return [item for item in self.rewrites(record, caption) if item.kind in NEGATIVE_KINDS]

    def positives(self, record: int, caption: int) -> list[Rewrite]:
        """Other texts that say the same, or are true of the image as well."""
        return [item for item in self.rewrites(record, caption) if item.kind in POSITIVE_KINDS]

    def rewrites(self, record: int, caption: int) -> list[Rewrite]:
        """All rewrites of a caption: negatives, then positives."""
        number = self._number(record, caption)
        first, last = map(int, self._arrays["rewrites_of"][number : number + 2])
        begin, end = map(int, self._arrays["texts_of"][number : number + 2])
        texts = self._arrays["text_bytes"][begin:end].tobytes()
        columns = (
            self._arrays[name][first:last].tolist()
            for name in ("bases", "starts", "ends", "sizes", "kinds")
        )
        found, at = [], 0
        for base, start, stop, size, kind in zip(*columns, strict=True):
            text = texts[at : at + size].decode()
            at += size
            whole = self._caption(base)
            if KINDS[kind] in (SENTENCE, CAPTION):
                found.append(Rewrite(whole, KINDS[kind], 0, len(whole)))
            else:
                whole = f"{whole[:start]}{text}{whole[stop:]}"
                found.append(Rewrite(whole, KINDS[kind], start, start + len(text)))
        return found

    def caption(self, record: int, caption: int) -> str:
        """A caption as it was given."""
        return self._caption(self._number(record, caption))

    def _number(self, record: int, caption: int) -> int:
        if not 0 <= record < len(self):
            raise IndexError(f"record {record} of {len(self)}")
        if not 0 <= caption < self.num_captions(record):
            raise IndexError(f"caption {caption} of {self.num_captions(record)}")
        return int(self._arrays["captions_of"][record]) + caption

    def _caption(self, number: int) -> str:
        begin, end = self._arrays["caption_ends"][number : number + 2]
        return self._arrays["caption_bytes"][begin:end].tobytes().decode()


def _map(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The metadata of a file and its arrays, mapped."""
    what = "no file of rewritten captions"
    remedy = "make one with tools/prepare_data.py rewrite"
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, 1 << 20)))
        metadata = json.loads(header["__metadata__"]["rewriting"])
        version = metadata.get("version")
        if version == VERSION and not {"fingerprint", "counts"} <= metadata.keys():
            raise ValueError("metadata that lack something")
        places = {name: _place(header[name], dtype) for name, dtype in _TYPES.items()}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; {remedy}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path} is {what}; {remedy}") from None
    if version != VERSION:
        raise UserError(f"{path} has version {version}, not {VERSION}; {remedy}")
    last = max(last for _, last in places.values())
    if path.stat().st_size != 8 + size + last:
        raise UserError(f"{path} is cut off: {path.stat().st_size} bytes; {remedy}")
    arrays = {
        name: _map_array(path, dtype, 8 + size + places[name][0], 8 + size + places[name][1])
        for name, dtype in _TYPES.items()
    }
    return metadata, arrays


def _place(entry: dict[str, Any], dtype: str) -> tuple[int, int]:
    """First byte and end of an array behind the header, whose entry may say anything."""
    first, last = entry["data_offsets"]
    (length,) = entry["shape"]
    is_whole = last - first == length * np.dtype(dtype).itemsize
    if entry["dtype"] != _NAMES[dtype] or not 0 <= first <= last or not is_whole:
        raise ValueError(f"entry {entry}")
    return int(first), int(last)


def _map_array(path: Path, dtype: str, begin: int, end: int) -> np.ndarray:
    if begin == end:  # nothing can be mapped
        return np.zeros(0, dtype)
    shape = ((end - begin) // np.dtype(dtype).itemsize,)
    return np.memmap(path, dtype, "r", offset=begin, shape=shape)
