"""A sweep for evaluation: every record once, in order, whole or in shares."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.test_loader import FIELDS, always_bad_below, encode, fail_at, stream
from unimo_paddle.data.sweep import check_sweep, share_of_sweep, sweep
from unimo_paddle.errors import BadSample, UserError


def test_a_sweep_sees_every_record_once_in_order():
    batches = list(sweep(range(10), encode, FIELDS, 4))
    assert [batch["record"].tolist() for batch, _ in batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    assert [indices.tolist() for _, indices in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_sweep_leaves_bad_records_out_and_says_which_are_in():
    batches = list(sweep(range(5), fail_at(1, BadSample("a", "b")), FIELDS, 2))
    assert [indices.tolist() for _, indices in batches] == [[0], [2, 3], [4]]


def test_a_sweep_twice_gives_the_same_numbers():
    first, again = (
        [b["draw"].tolist() for b, _ in sweep(range(9), encode, FIELDS, 4)] for _ in "ab"
    )
    assert first == again


def test_a_sweep_over_bad_records_only_is_refused():
    with pytest.raises(UserError, match="none of the 3 records"):
        list(sweep(range(3), always_bad_below(3), FIELDS, 2))


def test_a_sweep_stops_at_the_cap():
    used = []
    with pytest.raises(UserError, match="20 of 100 records cannot be used"):
        used += [indices for _, indices in sweep(range(100), always_bad_below(50), FIELDS, 20)]
    assert not used  # it did not go on to those that are good


@pytest.mark.parametrize(
    ("num_skipped", "count", "message"),
    [(11, 1000, "11 of 1000 records"), (31, 3000, "31 of 3000"), (3, 3, "none of the 3")],
)
def test_what_processes_left_out_together_is_judged(num_skipped: int, count: int, message: str):
    with pytest.raises(UserError, match=message):
        check_sweep(num_skipped, count)


@pytest.mark.parametrize(("num_skipped", "count"), [(0, 0), (10, 11), (30, 3000)])
def test_a_few_bad_records_are_no_reason_to_refuse(num_skipped: int, count: int):
    check_sweep(num_skipped, count)


def test_a_process_does_not_judge_its_own_part():
    assert not list(sweep(range(100), always_bad_below(3), FIELDS, 3, part=range(3)))


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 103])
def test_ranks_share_a_sweep_by_whole_batches(num_ranks: int, count: int) -> None:
    shares = [share_of_sweep(count, 8, rank, num_ranks) for rank in range(num_ranks)]
    assert [index for share in shares for index in share] == list(range(count))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 8
    assert all(share.start % 8 == 0 for share in shares if share)


def test_batches_of_a_share_are_those_of_the_whole() -> None:
    items = stream(21)
    whole = list(sweep(items.records, items.encode, items.fields, 8))
    parts = []
    for rank in range(2):
        part = share_of_sweep(21, 8, rank, 2)
        parts += sweep(items.records, items.encode, items.fields, 8, part=part)
    assert len(parts) == len(whole) == 3
    for (batch, indices), (expected, expected_indices) in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_array_equal(batch["draw"], expected["draw"])
