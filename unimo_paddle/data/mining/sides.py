"""The columns of the file of what was mined: of one side, neighbours and what they refer to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unimo_paddle.data.chunks import Chunks
from unimo_paddle.data.mining.mined import Column
from unimo_paddle.data.mining.neighbours import NO_NEIGHBOUR

_TEXTS_AT_ONCE = 4096
_RECORDS_AT_ONCE = 4096


@dataclass(frozen=True)
class Side:
    """What was mined on one side.

    Args:
        found: neighbours of each query, as ``neighbour_type``.
        query_of: [records] the query of each record.
        names: what the neighbours' numbers refer to.
    """

    found: Chunks
    query_of: np.ndarray
    names: Sequence[str]


def columns_of(side: Side, kind: str, names: str, offsets: str) -> list[Column]:
    """Columns that list only what is some record's neighbour.

    Args:
        kind: "image" or "text".
        names, offsets: what the columns of the list are called.
    """
    used = np.zeros(len(side.names), bool)
    for chunk in side.found:
        numbers = chunk["numbers"]
        used[numbers[numbers != NO_NEIGHBOUR]] = True
    kept = np.flatnonzero(used)
    # The last entry is where NO_NEIGHBOUR, -1, leads.
    renumbered = np.full(len(used) + 1, NO_NEIGHBOUR, np.int32)
    renumbered[kept] = np.arange(len(kept))
    lengths = np.zeros(len(kept) + 1, np.int64)
    for place, number in enumerate(kept.tolist(), 1):
        lengths[place] = len(_bytes(side.names[number]))
    ends = np.cumsum(lengths)
    shape = (len(side.query_of), _count(side.found))

    def neighbours() -> Iterator[np.ndarray]:
        for rows in _by_record(side):
            yield renumbered[rows["numbers"]]

    def scores() -> Iterator[np.ndarray]:
        for rows in _by_record(side):
            yield rows["scores"]

    def listed() -> Iterator[np.ndarray]:
        for start in range(0, len(kept), _TEXTS_AT_ONCE):
            part = kept[start : start + _TEXTS_AT_ONCE].tolist()
            yield np.frombuffer(b"".join(_bytes(side.names[i]) for i in part), np.uint8)

    return [
        Column(f"{kind}_neighbours", shape, np.dtype("<i4"), neighbours()),
        Column(f"{kind}_scores", shape, np.dtype("<f2"), scores()),
        Column(offsets, (len(kept) + 1,), np.dtype("<i8"), [ends]),
        Column(names, (int(ends[-1]),), np.dtype(np.uint8), listed()),
    ]


def _count(found: Chunks) -> int:
    return next(iter(found))["numbers"].shape[1]


def _by_record(side: Side) -> Iterator[np.ndarray]:
    """Neighbours of the records in order; queries that several records share are read again."""
    for start in range(0, len(side.query_of), _RECORDS_AT_ONCE):
        queries = side.query_of[start : start + _RECORDS_AT_ONCE]
        first, last = int(queries.min()), int(queries.max()) + 1
        yield side.found.read(first, last)[queries - first]


def _bytes(name: str) -> bytes:
    # Names of files that are not UTF-8 come with surrogates; they are kept as they are.
    return name.encode("utf-8", "surrogateescape")
