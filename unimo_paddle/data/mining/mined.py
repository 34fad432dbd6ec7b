"""The file of what was mined: neighbours of every record among images and among texts.

It is a safetensors file, which any reader of that format opens: 8 bytes with the length of a JSON
header, the header, then the arrays without gaps.

    image_neighbours [records, K] int32    numbers of images, nearest first; -1 where there are less
    image_scores     [records, K] float16  inner products of rows of length one
    image_names, image_name_offsets        UTF-8 of all paths, relative to the folder of images
    text_neighbours, text_scores, texts, text_offsets    the same for sentences

A side that was not mined has no arrays. Only what is some record's neighbour is listed. The
metadata name the version, the SHA-256 of the file of pairs, and how both sides were compared.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from unimo_paddle.data.fingerprints import fingerprint_of
from unimo_paddle.data.mining.neighbours import NO_NEIGHBOUR
from unimo_paddle.data.mining.texts import PackedTexts
from unimo_paddle.data.shards import is_there
from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

FORMAT = "unimo_paddle mined neighbours"
VERSION = "1"
_DTYPES = {"I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "F16": np.dtype("<f2"), "U8": np.uint8}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_ALIGNMENT = 8  # the widest number; the arrays follow each other from wide to narrow
_MAX_HEADER_BYTES = 10**7
_LOOKS = 100  # images that are looked for before they are relied upon


@dataclass(frozen=True)
class MinedImage:
    """An image near a record's.

    Args:
        path: of the file.
        score: at most 1, higher is nearer.
    """

    path: Path
    score: float


@dataclass(frozen=True)
class MinedText:
    """A sentence near a record's captions."""

    text: str
    score: float


@dataclass(frozen=True)
class MinedLists:
    """All that some record of a file of pairs has for a neighbour, without the neighbourhoods.

    Args:
        path: the file that ``tools/prepare_data.py mine`` wrote.
        images_dir: the folder that the images lie in.
        images: their absolute paths; there need be no files any more.
        texts: the sentences.
    """

    path: Path
    images_dir: Path
    images: Sequence[Path]
    texts: Sequence[str]


class Mined:
    """What was mined for the records of a file of pairs; nothing is read before it is asked for.

    Safe to use from several threads and processes: the file is mapped and never written to.

    Args:
        path: the file that ``tools/prepare_data.py mine`` wrote.
        pairs: the file of pairs; another one than was mined for is refused.
        images_dir: the folder of images, if it has moved.
    """

    def __init__(
        self, path: Path | str, pairs: Path | str, *, images_dir: Path | str | None = None
    ) -> None:
        self.path = Path(path)
        self.metadata, self._arrays = _map(self.path)
        _check_pairs(self.path, self.metadata, Path(pairs))
        self.num_records = int(self.metadata["num_records"])
        found = self.path.parent / self.metadata.get("images_dir", "")
        self.images_dir = Path(os.path.normpath(found) if images_dir is None else images_dir)
        self._images = self._listed("image_names", "image_name_offsets")
        self._texts = self._listed("texts", "text_offsets")

    def __len__(self) -> int:
        return self.num_records

    @property
    def has_images(self) -> bool:
        """Whether images were mined."""
        return self._images is not None

    @property
    def has_texts(self) -> bool:
        """Whether sentences were mined."""
        return self._texts is not None

    def check_records(self, count: int) -> None:
        """Refuse when more or fewer records can be used now than when they were mined for."""
        if count != self.num_records:
            raise UserError(
                f"{self.path} was mined for {self.num_records} records, but {count} can be used "
                "now; mend the pairs or run tools/prepare_data.py mine again"
            )

    def check_images(self) -> None:
        """Refuse when the images are gone: one after the other they would be passed over."""
        names = self._images or ()
        looked = [names[number] for number in range(0, len(names), max(1, len(names) // _LOOKS))]
        gone = [name for name in looked if not is_there(self.images_dir / name)]
        if gone and len(gone) == len(looked):
            raise UserError(
                f"{self.path} names images in {self.images_dir}, but none of {len(gone)} that were "
                f"looked for is there, first {gone[0]!r}; bring them back, or mine again"
            )
        if gone:
            logger.warning(
                "%s: %d of %d images that were looked for are gone, first %r; they count as absent",
                self.path,
                len(gone),
                len(looked),
                gone[0],
            )

    def images(self, record: int) -> list[MinedImage]:
        """The images nearest to a record's, nearest first; ``read_pairs`` numbers the records."""
        return self._images_at(*self._neighbours("image", record))

    def texts(self, record: int) -> list[MinedText]:
        """The sentences nearest to a record's captions, nearest first."""
        return self._texts_at(*self._neighbours("text", record))

    def draw_images(self, record: int, count: int, rng: np.random.Generator) -> list[MinedImage]:
        """Some of a record's images, each with the same chance; fewer where there are fewer."""
        return self._images_at(*_draw(*self._neighbours("image", record), count, rng))

    def draw_texts(self, record: int, count: int, rng: np.random.Generator) -> list[MinedText]:
        """Some of a record's sentences, as ``draw_images``."""
        return self._texts_at(*_draw(*self._neighbours("text", record), count, rng))

    def lists(self, *, images: bool = True, texts: bool = True) -> MinedLists:
        """What the file lists of both sides, or of one alone."""
        root = self.images_dir.resolve()
        paths = [root / name for name in self._images or ()] if images else []
        sentences = self._texts if texts and self._texts is not None else ()
        return MinedLists(self.path, root, paths, sentences)

    def summary(self) -> str:
        """What the file holds, in one line."""
        parts = [f"{self.num_records} records"]
        for kind, names in (("image", self._images), ("text", self._texts)):
            if names is not None:
                count = self._arrays[f"{kind}_neighbours"].shape[1]
                way = self.metadata[f"{kind}s_by"]
                parts.append(f"{count} {kind}s each of {len(names)}, near by {way}")
        return "; ".join(parts)

    def _images_at(self, numbers: np.ndarray, scores: np.ndarray) -> list[MinedImage]:
        assert self._images is not None
        return [
            MinedImage(self.images_dir / self._images[number], score)
            for number, score in zip(numbers.tolist(), scores.tolist(), strict=True)
        ]

    def _texts_at(self, numbers: np.ndarray, scores: np.ndarray) -> list[MinedText]:
        assert self._texts is not None
        return [
            MinedText(self._texts[number], score)
            for number, score in zip(numbers.tolist(), scores.tolist(), strict=True)
        ]

    def _neighbours(self, side: str, record: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and scores of a record's neighbours."""
        if f"{side}_neighbours" not in self._arrays:
            raise UserError(f"{self.path} holds no {side}s; mine again with --{side}s")
        if not 0 <= record < self.num_records:
            raise IndexError(f"record {record} of {self.num_records}")
        numbers = self._arrays[f"{side}_neighbours"][record]
        # The neighbours stand in front of what is left empty.
        count = int(np.count_nonzero(numbers != NO_NEIGHBOUR))
        return numbers[:count], self._arrays[f"{side}_scores"][record, :count]

    def _listed(self, data: str, offsets: str) -> PackedTexts | None:
        if data not in self._arrays:
            return None
        return PackedTexts(self._arrays[data], self._arrays[offsets])


def read_metadata(path: Path) -> dict[str, str]:
    """What a file of neighbours says of itself."""
    return _map(path)[0]


def _draw(
    numbers: np.ndarray, scores: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    chosen = rng.choice(len(numbers), min(count, len(numbers)), replace=False)
    return numbers[chosen], scores[chosen]


def _map(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and mapped arrays of a file, which may be damaged."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if 0 < size <= _MAX_HEADER_BYTES else None
        metadata = header.pop("__metadata__")
        known = {"pairs_sha256", "pairs_name", "num_records", "key"} <= metadata.keys()
        if metadata["format"] != FORMAT or metadata["version"] != VERSION or not known:
            raise ValueError("another format or version")
        room = path.stat().st_size - 8 - size
        arrays = {name: _array(path, 8 + size, room, entry) for name, entry in header.items()}
    except OSError as error:
        raise UserError(f"mined file {path} cannot be read: {error.strerror}; mine again") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is no whole file of mined neighbours of version {VERSION} "
            f"({str(error)[:60]}); mine again"
        ) from None
    return metadata, arrays


def _array(path: Path, start: int, room: int, entry: dict[str, Any]) -> np.ndarray:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    first, last = entry["data_offsets"]
    if not 0 <= first <= last <= room or last - first != dtype.itemsize * int(np.prod(shape)):
        raise ValueError("it is cut off")
    if not last - first:  # nothing can be mapped
        return np.zeros(shape, dtype)
    # A plain array over the same map: slices of np.memmap cost ten times as much.
    return np.asarray(np.memmap(path, dtype, mode="r", offset=start + first, shape=shape))


def _check_pairs(path: Path, metadata: dict[str, Any], pairs: Path) -> None:
    if metadata["pairs_sha256"] != fingerprint_of(pairs):
        raise UserError(
            f"{path} was mined for another {metadata['pairs_name']} than {pairs} is now; run "
            "tools/prepare_data.py mine again"
        )


@dataclass(frozen=True)
class Column:
    """An array to write, a part at a time.

    Args:
        shape, dtype: of the whole.
        parts: its rows in order.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    parts: Iterable[np.ndarray]


def write_mined(path: Path, columns: list[Column], metadata: dict[str, str]) -> None:
    """Write a file for ``Mined``, one part in memory at a time."""
    columns = sorted(columns, key=lambda column: (-column.dtype.itemsize, column.name))
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "version": VERSION, **metadata}}
    offset = 0
    for column in columns:
        size = column.dtype.itemsize * int(np.prod(column.shape))
        header[column.name] = {
            "dtype": _NAMES[column.dtype],
            "shape": list(column.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, ensure_ascii=True).encode("ascii")
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for column in columns:
            _write_parts(file, column)


def _write_parts(file: IO[bytes], column: Column) -> None:
    written = 0
    for part in column.parts:
        part = np.ascontiguousarray(part, column.dtype)
        file.write(part.data)
        written += part.size
    assert written == int(np.prod(column.shape)), (column.name, written, column.shape)
