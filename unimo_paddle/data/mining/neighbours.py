"""The nearest rows of a large table: exact or by an approximate index, dense or sparse.

Scores are inner products of rows of length one. Dense rows are found with faiss: exactly up to
``EXACT_ROWS`` of them, beyond that by an inverted file whose rows keep 8 bits a number. Sparse rows
are always found exactly: a product of some rows with a part of the table at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unimo_paddle.data.faiss_library import load_faiss
from unimo_paddle.data.publish import publish

if TYPE_CHECKING:
    from scipy import sparse

logger = logging.getLogger(__name__)

EXACT_ROWS = 200_000
NO_NEIGHBOUR = -1
ALIKE = 0.98  # mean inner product of rows that hardly tell anything apart
_ALIKE_ROWS = 1000
_TRAINING_ROWS = 64  # that a list of the inverted file learns its centre from
_LISTS_LOOKED_AT = 32  # one of so many lists is searched, but at least
_FEWEST_LISTS = 32


def neighbour_type(count: int) -> np.dtype:
    """A record's neighbours: their numbers, best first, and their scores."""
    return np.dtype([("numbers", "<i4", (count,)), ("scores", "<f2", (count,))])


class DenseTable:
    """Rows of length one, of which some are kept.

    Args:
        chunks: the rows [N, D] in parts.
        kept: numbers of the rows that may be found, ascending.
        path: where the index of a large table is kept for who goes on with the work.
        exact_rows: most rows that are searched exactly.
    """

    def __init__(
        self,
        chunks: Iterable[np.ndarray],
        kept: np.ndarray,
        *,
        path: Path,
        exact_rows: int = EXACT_ROWS,
    ) -> None:
        self._kept = np.asarray(kept, np.int32)
        self.is_exact = len(self._kept) <= exact_rows
        if self.is_exact:
            self._index = _fill(None, _parts(chunks, self._kept))
            return
        if not path.exists():
            index = _fill(_train(chunks, self._kept), _parts(chunks, self._kept))
            publish(path, lambda unfinished: load_faiss().write_index(index, str(unfinished)))
        # Read also by who has just written it: both then have the same.
        self._index = load_faiss().read_index(str(path), load_faiss().IO_FLAG_MMAP)
        self._index.nprobe = max(_FEWEST_LISTS, self._index.nlist // _LISTS_LOOKED_AT)

    def nearest(self, queries: np.ndarray, count: int) -> np.ndarray:
        """The nearest rows of each query [Q, D], as ``neighbour_type``; zeros have none."""
        found = _empty(len(queries), count)
        asked = np.flatnonzero(np.any(queries, axis=1))
        if not len(asked) or not len(self._kept):
            return found
        wanted = np.ascontiguousarray(queries[asked], np.float32)
        scores, places = self._index.search(wanted, min(count, len(self._kept)))
        is_found = places >= 0
        numbers = np.where(is_found, self._kept[places], NO_NEIGHBOUR)
        found["numbers"][asked, : numbers.shape[1]] = numbers
        found["scores"][asked, : numbers.shape[1]] = np.where(is_found, scores, 0.0)
        return found


def _parts(chunks: Iterable[np.ndarray], kept: np.ndarray) -> Iterator[np.ndarray]:
    """The kept rows of each chunk as float32."""
    start = 0
    for chunk in chunks:
        low, high = np.searchsorted(kept, (start, start + len(chunk)))
        yield np.ascontiguousarray(chunk[kept[low:high] - start], np.float32)
        start += len(chunk)


def _fill(index: Any, parts: Iterable[np.ndarray]) -> Any:
    """An index with the rows of all parts; an exact one where there is none yet."""
    for part in parts:
        index = load_faiss().IndexFlatIP(part.shape[1]) if index is None else index
        index.add(part)
    return index


def _train(chunks: Iterable[np.ndarray], kept: np.ndarray) -> Any:
    """An empty inverted file, whose lists are learnt from rows spread over the table."""
    num_lists = int(4 * np.sqrt(len(kept)))
    step = max(1, len(kept) // (_TRAINING_ROWS * num_lists))
    sample = np.concatenate(list(_parts(chunks, kept[::step])))
    kind = f"IVF{num_lists},SQ8"
    faiss = load_faiss()
    index = faiss.index_factory(sample.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    return index


def warn_if_alike(chunks: Iterable[np.ndarray], what: str) -> None:
    """Say so where features hardly differ, as those of a model that has learnt too little.

    The mean over all pairs of the first rows is the square of their mean's length.
    """
    first = np.asarray(next(iter(chunks))[:_ALIKE_ROWS], np.float32)
    first = first[np.any(first, axis=1)]
    likeness = float(np.linalg.norm(first.mean(axis=0)) ** 2) if len(first) > 1 else 0.0
    if likeness > ALIKE:
        logger.warning(
            "%s are all alike (mean similarity %.3f): the model has learnt too little to mine by",
            what,
            likeness,
        )


def _read_part(path: Path) -> sparse.spmatrix:
    # Imported here, for that takes a while and most programs need none of it.
    from scipy import sparse

    return sparse.load_npz(path)


class SparseTable:
    """Sparse rows of length one, in parts that lie in files.

    Args:
        paths: files of ``scipy.sparse.save_npz``, each the transposed rows of a part.
        size: rows in each part but the last.
        kept: what the rows are called when they are found, ascending; their places by default.
    """

    def __init__(self, paths: Sequence[Path], size: int, kept: np.ndarray | None = None) -> None:
        self._paths = paths
        self._size = size
        self._kept = kept
        # One part is held in memory, so that a small table is read once.
        self._held = _read_part(paths[0]) if len(paths) == 1 else None

    def nearest(self, queries: sparse.csr_matrix, count: int) -> np.ndarray:
        """The nearest rows of each query, as ``neighbour_type``; at least a word is common."""
        found = _empty(queries.shape[0], count)
        for number, path in enumerate(self._paths):
            part = self._held if self._held is not None else _read_part(path)
            product = (queries @ part).tocsr()
            for row in range(product.shape[0]):
                places = slice(product.indptr[row], product.indptr[row + 1])
                numbers = product.indices[places] + number * self._size
                _merge(found[row], numbers, product.data[places])
        if self._kept is not None:
            is_found = found["numbers"] != NO_NEIGHBOUR
            found["numbers"] = np.where(is_found, self._kept[found["numbers"]], NO_NEIGHBOUR)
        return found


def _empty(num_rows: int, count: int) -> np.ndarray:
    found = np.zeros(num_rows, neighbour_type(count))
    found["numbers"] = NO_NEIGHBOUR
    return found


def _merge(found: np.void, numbers: np.ndarray, scores: np.ndarray) -> None:
    """Take better neighbours into one row; of equal ones the first in the table stay in front."""
    count = len(found["numbers"])
    scores = scores.astype(np.float16).astype(np.float32)
    if len(scores) > count:
        # All that tie with the last are kept so far: the order of the table decides.
        is_good = scores >= np.partition(scores, -count)[-count]
        numbers, scores = numbers[is_good], scores[is_good]
    known = found["numbers"] != NO_NEIGHBOUR
    numbers = np.concatenate([found["numbers"][known], numbers])
    scores = np.concatenate([found["scores"][known].astype(np.float32), scores])
    order = np.lexsort((numbers, -scores))[:count]
    found["numbers"][: len(order)] = numbers[order]
    found["scores"][: len(order)] = scores[order]
