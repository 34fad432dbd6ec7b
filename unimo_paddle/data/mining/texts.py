"""Sentences of text files, and how they are compared by their words."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from unimo_paddle.data.chunks import Chunks, Workshop
from unimo_paddle.data.mining.neighbours import SparseTable
from unimo_paddle.data.records import MAX_TEXT_BYTES, Fault, read_lines
from unimo_paddle.data.wording import Words, sentences_of, words_of
from unimo_paddle.errors import UserError

if TYPE_CHECKING:
    from scipy import sparse

MIN_WORDS, MAX_WORDS = 4, 64  # of a sentence that may be found
NUM_COLUMNS = 1 << 20  # words share a column by chance; with a million that hardly matters
ROWS_AT_ONCE = 1 << 15  # of the table in one product
QUERIES_AT_ONCE = 256
_TEXTS_AT_ONCE = 512


class PackedTexts(Sequence[str]):
    """Texts end to end in one array of bytes; any is read without the others.

    Args:
        data: [bytes] uint8, UTF-8.
        offsets: [N + 1] int64, where each begins and the last ends.
    """

    def __init__(self, data: np.ndarray | mmap.mmap, offsets: np.ndarray) -> None:
        self._data = data
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> str:
        start, stop = int(self._offsets[index]), int(self._offsets[index + 1])
        return bytes(self._data[start:stop]).decode("utf-8", "surrogateescape")


def write_sentences(
    path: Path, files: Sequence[Path], *, is_known: Callable[[Words], bool]
) -> tuple[int, int]:
    """Write the sentences of files into a folder for ``read_sentences``; each wording once.

    Args:
        is_known: whether a sentence is to be left out by its words.

    Returns:
        How many were written, and how many left out because they are known.
    """
    path.mkdir(parents=True)
    offsets, num_known = [0], 0
    seen: set[int] = set()
    total = sum(file.stat().st_size for file in files)
    with (
        (path / "texts.bin").open("wb") as out,
        tqdm(total=total, desc="sentences", unit="B", unit_scale=True, mininterval=1) as progress,
    ):
        for file in files:
            for _, line in read_lines(file):
                if isinstance(line, Fault) or len(line) > MAX_TEXT_BYTES:
                    continue
                progress.update(len(line.encode("utf-8", "replace")) + 1)
                for sentence in sentences_of(line):
                    words = words_of(sentence)
                    # Python's hash differs from process to process, what it tells apart does not.
                    if not MIN_WORDS <= len(words) <= MAX_WORDS or hash(words) in seen:
                        continue
                    seen.add(hash(words))
                    if is_known(words):
                        num_known += 1
                        continue
                    offsets.append(offsets[-1] + out.write(sentence.encode("utf-8")))
    np.save(path / "offsets.npy", np.array(offsets, np.int64))
    np.save(path / "num_known.npy", np.int64(num_known))
    return len(offsets) - 1, num_known


def read_sentences(path: Path) -> tuple[PackedTexts, int]:
    """The sentences that ``write_sentences`` wrote, mapped, and how many it left out."""
    offsets = np.load(path / "offsets.npy", mmap_mode="r")
    if len(offsets) < 2:
        raise UserError(
            f"the text files hold no sentence of {MIN_WORDS} to {MAX_WORDS} words that is not also "
            "a caption; give others"
        )
    data = np.memmap(path / "texts.bin", np.uint8, mode="r")
    return PackedTexts(data, offsets), int(np.load(path / "num_known.npy"))


class WordWeights:
    """TF-IDF of texts, whose memory does not grow with the number of words there are.

    A column stands for a word by its hash. English words that say nothing (scikit-learn's list)
    do not count, and a word said often counts by the logarithm. Whatever else texts are split into
    is left to ``analyzer``.
    """

    def __init__(self, analyzer: Callable[[Iterable[str]], list[str]] | str = "word") -> None:
        # Imported here, for that takes seconds and most programs need none of it.
        from sklearn.feature_extraction.text import HashingVectorizer

        self._count = HashingVectorizer(
            n_features=NUM_COLUMNS,
            alternate_sign=False,
            norm=None,
            stop_words="english" if analyzer == "word" else None,
            analyzer=analyzer,
            dtype=np.float32,
        )
        self._weights = np.ones(NUM_COLUMNS, np.float32)

    def learn(self, texts: Iterable) -> None:
        """Weigh each word by how few of the texts have it."""
        found, total = np.zeros(NUM_COLUMNS, np.int64), 0
        for part in _batches(texts):
            rows = self._count.transform(part)
            found += np.bincount(rows.indices, minlength=NUM_COLUMNS)
            total += len(part)
        self._weights = (np.log((1 + total) / (1 + found)) + 1).astype(np.float32)

    def rows(self, texts: Sequence) -> sparse.csr_matrix:
        """Weights [N, NUM_COLUMNS] of texts, rows of length one."""
        rows = self._count.transform(texts).tocsr()
        rows.data = (1 + np.log(rows.data)) * self._weights[rows.indices]
        squares = np.add.reduceat(np.append(rows.data**2, 0), rows.indptr[:-1])
        lengths = np.where(np.diff(rows.indptr) > 0, np.sqrt(squares), 1.0)
        rows.data /= np.repeat(lengths, np.diff(rows.indptr)).astype(np.float32)
        return rows

    def write(self, shop: Workshop, name: str, texts: Sequence) -> tuple[list[Path], int]:
        """Write the rows of texts in parts, for ``SparseTable``."""
        from scipy import sparse

        paths = []
        for start in range(0, len(texts), ROWS_AT_ONCE):

            def write(path: Path, start: int = start) -> None:
                stop = min(start + ROWS_AT_ONCE, len(texts))
                parts = [self.rows(part) for part in _batches(texts[i] for i in range(start, stop))]
                sparse.save_npz(path, sparse.vstack(parts).T.tocsr(), compressed=False)

            paths.append(shop.make_file(f"{name}-{start // ROWS_AT_ONCE:06d}.npz", write))
        return paths, ROWS_AT_ONCE

    def nearest(
        self, shop: Workshop, name: str, table: SparseTable, texts: Sequence, count: int
    ) -> Chunks:
        """The nearest rows of a table to texts."""

        def search(start: int, stop: int) -> np.ndarray:
            return table.nearest(self.rows([texts[i] for i in range(start, stop)]), count)

        return shop.compute(name, len(texts), search, size=QUERIES_AT_ONCE, unit="record")


def _batches(texts: Iterable) -> Iterator[list]:
    texts = iter(texts)
    while part := list(itertools.islice(texts, _TEXTS_AT_ONCE)):
        yield part
