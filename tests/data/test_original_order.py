"""The original's orders: epochs, negatives, batches of tokens."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from unimo_paddle.data.fields import Field
from unimo_paddle.data.loader import Loader, Stream
from unimo_paddle.data.original_order import (
    EpochSequence,
    by_epoch,
    by_seed,
    candidates_by_epoch,
    reorder,
    token_batches,
)

OWNERS = [0, 0, 1, 2, 1, 3, 3, 3, 4]


def shuffled_in_place(count: int, generators) -> list[list[int]]:
    """The orders of a list that each generator shuffles in turn, as the original does it."""
    records, orders = list(range(count)), []
    for generator in generators:
        generator.shuffle(records)
        orders.append(list(records))
    return orders


@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_a_generator_an_epoch_shuffles_what_the_last_one_left(epoch: int):
    expected = shuffled_in_place(50, [np.random.RandomState(e) for e in range(5)])
    assert by_epoch(50, epoch).tolist() == expected[epoch]


@pytest.mark.parametrize("epoch", [0, 1, 4])
@pytest.mark.parametrize(("seed", "effective"), [(None, 0), (0, 0), (7, 7)])
def test_one_generator_goes_on_from_epoch_to_epoch(epoch: int, seed, effective: int):
    expected = shuffled_in_place(50, [np.random.RandomState(effective)] * 5)
    assert by_seed(50, epoch, seed).tolist() == expected[epoch]


def test_records_are_reordered_every_epoch():
    records = [f"record {number}" for number in range(6)]
    sequence = reorder(records, lambda epoch: by_epoch(6, epoch))
    assert [sequence[p] for p in range(6, 12)] == [records[i] for i in by_epoch(6, 1)]


def test_an_unshuffled_stream_follows_the_epochs():
    sequence = reorder(range(5), lambda epoch: by_seed(5, epoch, 3))
    encode = lambda record, rng: {"record": record}  # noqa: E731
    stream = Stream("text", sequence, encode, (Field("record", ()),), 4, shuffle=False)
    loader = Loader([stream], seed=0, num_workers=2)
    records = [record for batch in loader.batches(1, 4) for record in batch["record"].tolist()]
    orders = [order for epoch in range(4) for order in by_seed(5, epoch, 3).tolist()]
    assert records == orders[4:16]
    assert stream.epoch_size == 5


def test_an_epoch_is_made_once_while_it_is_near():
    made = []
    sequence = EpochSequence(3, lambda epoch: made.append(epoch) or [epoch] * 3)
    assert [sequence[p] for p in range(12)] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert [sequence[p] for p in (0, 12, 3)] == [0, 4, 1]
    assert made == [0, 1, 2, 3, 4, 1]


def test_an_epoch_is_made_once_by_many_threads():
    made = []
    sequence = EpochSequence(100, lambda epoch: made.append(epoch) or list(range(100)))
    threads = [threading.Thread(target=sequence.__getitem__, args=(p,)) for p in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [0]


@pytest.mark.parametrize("index", [-1, 3 * 10**6])
def test_there_is_nothing_beyond_the_epochs(index: int):
    with pytest.raises(IndexError, match=f"item {index}"):
        EpochSequence(3, lambda epoch: range(3))[index]


def candidates_reference(owners: list[int], negatives: int, epochs: int) -> list[list[int]]:
    """The rows of all epochs, drawn one number at a time by ``choice``."""
    rows, order = [], list(range(len(owners)))
    images = sorted(set(owners))
    for epoch in range(epochs):
        np.random.RandomState(epoch).shuffle(order)
        rng = np.random.RandomState(epoch)

        def other_image(own: int, rng=rng) -> int:
            image = rng.choice(images)
            while image == own:
                image = rng.choice(images)
            return int(image)

        for caption in order:
            own = owners[caption]
            row = [caption, *(other_image(own) for _ in range(negatives))]
            for _ in range(negatives):
                image = other_image(own)
                row.append(int(rng.choice([c for c, i in enumerate(owners) if i == image])))
            rows.append(row)
    return rows


@pytest.mark.parametrize("owners", [OWNERS, [0, 1], [0] * 9 + list(range(1, 40))])
@pytest.mark.parametrize("negatives", [1, 10])
def test_candidates_are_those_of_the_slow_form(owners: list[int], negatives: int):
    sequence = candidates_by_epoch(owners, negatives)
    rows = [sequence[p].tolist() for p in range(3 * len(owners))]
    assert rows == candidates_reference(owners, negatives, 3)


def test_a_candidate_is_never_of_the_captions_own_image():
    sequence, owners = candidates_by_epoch(OWNERS, 10), np.array(OWNERS)
    for row in (sequence[p] for p in range(5 * len(OWNERS))):
        own = owners[row[0]]
        assert own not in row[1:11]
        assert own not in owners[row[11:]]


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "expected"),
    [
        ([3, 4, 2, 2], 12, [[0, 1, 2], [3]]),
        ([3, 4, 5], 10, [[0, 1], [2]]),  # three of five would be fifteen
        ([5, 1, 1], 10, [[0, 1], [2]]),  # the longest counts until the batch is full
        ([2, 20, 2], 10, [[0], [1], [2]]),
        ([20], 10, [[0]]),
        ([5, 5], 10, [[0, 1]]),
        ([], 10, []),
    ],
)
def test_batches_of_tokens_hold_what_fits(lengths, max_tokens: int, expected):
    assert token_batches(lengths, max_tokens) == expected


def test_every_record_is_in_one_batch_of_tokens():
    lengths = np.random.default_rng(0).integers(1, 60, 500).tolist()
    batches = token_batches(lengths, 128)
    assert [number for batch in batches for number in batch] == list(range(500))
    assert max(len(b) * max(lengths[i] for i in b) for b in batches) <= 128
