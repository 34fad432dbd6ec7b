"""Data go on where they were, whatever the number of ranks and the size of their batches."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.test_loader import LENGTHS, other_stream, records_of, stream
from unimo_paddle.data.loader import Loader

NUM_RECORDS = len(LENGTHS)


def seen(num_ranks: int, batch_size: int, start: int, stop: int, origin=None, **options) -> list:
    """The records that all ranks take together, in the order of their positions."""
    by_rank = []
    for rank in range(num_ranks):
        streams = [stream(batch_size=batch_size, **options)]
        loader = Loader(streams, seed=1, rank=rank, num_ranks=num_ranks)
        if origin is not None:
            loader.go_on(start, origin)
        records = records_of(loader, start, stop)
        by_rank.append(np.array(records).reshape(stop - start, batch_size))
    return np.concatenate(by_rank, axis=1).ravel().tolist()


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["any order", "buckets"])
@pytest.mark.parametrize(("num_ranks", "batch_size"), [(1, 8), (4, 8), (2, 3), (1, 1)])
def test_the_order_of_records_goes_on_at_any_size(lengths, num_ranks: int, batch_size: int) -> None:
    stop = 19  # of two ranks with eight records each: in the third epoch
    origin = Loader([stream(lengths=lengths)], seed=1, num_ranks=2).position(stop)
    assert origin["text"]["position"] == stop * 16
    count = 2 * NUM_RECORDS // (num_ranks * batch_size)
    going_on = seen(num_ranks, batch_size, stop, stop + count, origin, lengths=lengths)
    undisturbed = seen(2, 8, 0, 40, lengths=lengths)[stop * 16 :]
    assert going_on == undisturbed[: len(going_on)]
    assert len(going_on) > NUM_RECORDS


def test_a_position_is_passed_on_through_several_sizes() -> None:
    first = Loader([stream(lengths=LENGTHS)], seed=1, num_ranks=2)
    second = Loader([stream(lengths=LENGTHS, batch_size=5)], seed=1)
    second.go_on(7, first.position(7))
    third = Loader([stream(lengths=LENGTHS)], seed=1, num_ranks=2)
    third.go_on(9, second.position(9))
    begin = 7 * 16 + 2 * 5
    expected = seen(2, 8, 0, 40, lengths=LENGTHS)[begin : begin + 8]
    assert third.batch(9)["record"].tolist() == expected
    assert third.records(9)["text"] == expected


def test_the_same_size_goes_on_as_if_nothing_had_been() -> None:
    loader, resumed = (Loader([stream(lengths=LENGTHS)], seed=1) for _ in range(2))
    resumed.go_on(30, loader.position(30))
    assert records_of(resumed, 30, 40) == records_of(loader, 30, 40)
    assert resumed.position(33) == loader.position(33)


def test_a_new_stream_begins_as_if_it_had_always_been_there() -> None:
    old, new = Loader([stream()], seed=1), Loader([stream(), other_stream()], seed=1)
    new.go_on(5, old.position(5))
    always = Loader([stream(), other_stream()], seed=1)
    np.testing.assert_array_equal(new.batch(6)["other"], always.batch(6)["other"])
