"""The orders in which the original program meets its records, epoch by epoch.

It shuffles one list in place, so every epoch starts from the order of the one before:

- classification, regression, retrieval: a new ``RandomState(epoch)`` every epoch (``by_epoch``);
- text generation, captions, entailment: NumPy's global generator, seeded once (``by_seed``);
  entailment shuffles the records that it is measured on, too.

All is a pure function of the seed and the epoch. A ``Stream`` that is not shuffled follows an
``EpochSequence``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from typing import Any

import numpy as np

MAX_EPOCHS = 10**6  # so many until a sequence of epochs ends
CACHED_EPOCHS = 4  # a batch meets two, and batches are made ahead
WORDS_AT_ONCE = 1 << 16


def by_epoch(count: int, epoch: int) -> np.ndarray:
    """The order [count] of an epoch, shuffled by a generator of each epoch's own."""
    order = np.arange(count)
    for number in range(epoch + 1):
        np.random.RandomState(number).shuffle(order)
    return order


def by_seed(count: int, epoch: int, seed: int | None) -> np.ndarray:
    """The order [count] of an epoch, shuffled by one generator for all; no seed means 0."""
    order = np.arange(count)
    rng = np.random.RandomState(seed or 0)
    for _ in range(epoch + 1):
        rng.shuffle(order)
    return order


class EpochSequence(Sequence):
    """The records of all epochs, one after the other.

    Item ``p`` is record ``p % epoch_size`` of epoch ``p // epoch_size``.

    Args:
        epoch_size: records of an epoch.
        make: epoch -> its records in order; called when one of them is asked for, for any epoch,
            and never by two threads at once.
    """

    def __init__(self, epoch_size: int, make: Callable[[int], Sequence[Any]]) -> None:
        self.epoch_size = epoch_size
        self._make = make
        self._epochs: OrderedDict[int, Sequence[Any]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return self.epoch_size * MAX_EPOCHS

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        epoch, place = divmod(index, self.epoch_size)
        return self._records(epoch)[place]

    def _records(self, epoch: int) -> Sequence[Any]:
        with self._lock:
            if epoch not in self._epochs:
                while len(self._epochs) >= CACHED_EPOCHS:
                    self._epochs.popitem(last=False)
                self._epochs[epoch] = self._make(epoch)
            self._epochs.move_to_end(epoch)
            return self._epochs[epoch]


def reorder(records: Sequence[Any], order: Callable[[int], np.ndarray]) -> EpochSequence:
    """The records in another order every epoch.

    Args:
        order: epoch -> numbers of the records, such as
            ``lambda epoch: by_seed(len(records), epoch, seed)``.
    """
    return EpochSequence(len(records), lambda epoch: _Reordered(records, order(epoch)))


class _Reordered(Sequence):
    def __init__(self, records: Sequence[Any], order: np.ndarray) -> None:
        self._records, self._order = records, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Any:
        return self._records[int(self._order[index])]


def candidates_by_epoch(owners: Sequence[int] | np.ndarray, negatives: int) -> EpochSequence:
    """The captions of retrieval in the order of the original's one process, with negatives.

    Args:
        owners: [M], the image of each caption. Images are numbered from 0 in the order in which
            the captions first name them; there are at least two.
        negatives: of each kind.

    Returns:
        Rows [1 + 2 * negatives] int64: a caption, other images, captions of other images.
    """
    owners = np.asarray(owners)
    return EpochSequence(
        len(owners), lambda epoch: _candidates(owners, negatives=negatives, epoch=epoch)
    )


def _candidates(owners: np.ndarray, *, negatives: int, epoch: int) -> np.ndarray:
    """The rows of one epoch [M, 1 + 2 * negatives].

    The negatives come from a second generator of the same seed. An image is drawn until it is
    another one; a caption is drawn from the captions of an image drawn in that way.
    """
    captions = np.split(np.argsort(owners, kind="stable"), np.cumsum(np.bincount(owners))[:-1])
    captions_of = [numbers.tolist() for numbers in captions]
    draw = _choices(np.random.RandomState(epoch))
    num_images = len(captions_of)

    def draw_image(own: int) -> int:
        while (image := draw(num_images)) == own:
            pass
        return image

    rows = np.empty((len(owners), 1 + 2 * negatives), np.int64)
    order = by_epoch(len(owners), epoch)
    rows[:, 0] = order
    for row, own in zip(rows, owners[order].tolist(), strict=True):
        row[1 : 1 + negatives] = [draw_image(own) for _ in range(negatives)]
        for place in range(1 + negatives, len(row)):
            others = captions_of[draw_image(own)]
            row[place] = others[draw(len(others))]
    return rows


def _choices(rng: np.random.RandomState) -> Callable[[int], int]:
    """The numbers below a count that ``rng.choice(count)`` would return, ten times as fast.

    It takes the low bits of a word of 32 bits, again until they are below the count; of a count
    of one it takes none.
    """

    def words() -> Iterator[int]:
        while True:
            yield from rng.randint(0, 2**32, WORDS_AT_ONCE, np.uint32).tolist()

    take = words().__next__

    def draw(count: int) -> int:
        if count == 1:
            return 0
        mask = (1 << (count - 1).bit_length()) - 1
        while (number := take() & mask) >= count:
            pass
        return number

    return draw


def token_batches(lengths: Iterable[int], max_tokens: int) -> list[list[int]]:
    """The batches of the original's ``in_tokens``: numbers of the records of each, in order.

    A batch grows while its records, padded to the longest, hold at most ``max_tokens``; the
    record that would join counts. One that is longer than that by itself is a batch of its own.
    """
    batches: list[list[int]] = []
    longest = 0
    for number, length in enumerate(lengths):
        longest = max(longest, length)
        if batches and (len(batches[-1]) + 1) * longest <= max_tokens:
            batches[-1].append(number)
        else:
            batches.append([number])
            longest = length
    return batches
