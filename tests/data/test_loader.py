"""Batches as a pure function of seed, step and rank."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest

from unimo_paddle.data.fields import Field
from unimo_paddle.data.loader import Loader, Stream, bucket
from unimo_paddle.errors import BadSample, UserError

FIELDS = (Field("record", ()), Field("draw", (), "float64"))


def encode(record, rng):
    return {"record": record, "draw": rng.random()}


def stream(num_records=103, batch_size=8, **options) -> Stream:
    options = {"name": "text", "encode": encode, "fields": FIELDS} | options
    return Stream(records=range(num_records), batch_size=batch_size, **options)


def other_stream(**options) -> Stream:
    fields = (Field("other", ()),)
    options = {"encode": lambda record, rng: {"other": record}} | options
    return stream(17, 3, name="pairs", fields=fields, **options)


def collect(loader: Loader, start: int, stop: int) -> list[dict]:
    return [{k: v.tolist() for k, v in batch.items()} for batch in loader.batches(start, stop)]


def records_of(loader: Loader, start: int, stop: int) -> list[int]:
    return [record for batch in collect(loader, start, stop) for record in batch["record"]]


LENGTHS = np.random.default_rng(0).integers(3, 40, 103)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_every_epoch_holds_every_record_once(lengths, epoch):
    loader = Loader([stream(lengths=lengths)], seed=1)
    records = records_of(loader, 0, 103 * 6 // 8 + 1)
    assert sorted(records[103 * epoch : 103 * (epoch + 1)]) == list(range(103))


def test_epochs_and_seeds_differ_in_order():
    first = records_of(Loader([stream()], seed=1), 0, 26)
    assert first[:103] != first[103:206]
    assert first != records_of(Loader([stream()], seed=2), 0, 26)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_workers_do_not_change_the_batches(num_workers):
    plain, threaded = (
        Loader([stream(lengths=LENGTHS), other_stream()], seed=3, num_workers=workers)
        for workers in (0, num_workers)
    )
    assert collect(plain, 0, 40) == collect(threaded, 0, 40)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_the_slices_of_the_ranks_make_the_batch_of_one(lengths, num_ranks):
    whole = Loader([stream(lengths=lengths)], seed=3)
    ranks = [
        Loader(
            [stream(batch_size=8 // num_ranks, lengths=lengths)],
            seed=3,
            rank=rank,
            num_ranks=num_ranks,
        )
        for rank in range(num_ranks)
    ]
    for step in range(30):
        joined = [record for rank in ranks for record in rank.batch(step)["draw"]]
        assert joined == whole.batch(step)["draw"].tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_start_in_the_middle_equals_going_on(num_workers):
    straight = collect(Loader([stream(lengths=LENGTHS)], seed=4), 0, 40)
    resumed = Loader([stream(lengths=LENGTHS)], seed=4, num_workers=num_workers)
    assert collect(resumed, 25, 40) == straight[25:]


def test_a_single_batch_equals_the_iterated_one():
    loader = Loader([stream(), other_stream()], seed=4)
    assert loader.batch(17)["draw"].tolist() == collect(loader, 0, 18)[17]["draw"]


def test_one_record_seen_twice_gets_other_random_numbers():
    loader = Loader([stream(num_records=1)], seed=0)
    draws = [draw for batch in collect(loader, 0, 3) for draw in batch["draw"]]
    assert len(set(draws)) == 24


def test_switching_a_stream_off_leaves_the_other_as_it_was():
    both, alone = Loader([other_stream(), stream()], seed=5), Loader([stream()], seed=5)
    assert both.batch(9)["draw"].tolist() == alone.batch(9)["draw"].tolist()


def test_without_shuffle_records_come_in_order_for_ever():
    loader = Loader([stream(num_records=5, batch_size=4, lengths=LENGTHS[:5])], seed=0,
                    shuffle=False)  # fmt: skip
    assert records_of(loader, 0, 3) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_a_stream_may_keep_its_order_beside_one_that_does_not():
    ordered = stream(num_records=5, batch_size=4, shuffle=False)
    loader = Loader([ordered, other_stream()], seed=0)
    batches = collect(loader, 0, 17)
    assert [x for batch in batches for x in batch["record"]] == [p % 5 for p in range(68)]
    others = [x for batch in batches for x in batch["other"]]
    assert others[:17] != list(range(17))


def test_in_a_kept_order_the_next_record_replaces_a_bad_one():
    ordered = stream(num_records=5, batch_size=5, shuffle=False)
    encode_others = fail_at(4, BadSample("record 4", "truncated"))
    loader = Loader([replace(ordered, encode=encode_others)], seed=0)
    assert records_of(loader, 0, 2) == [0, 1, 2, 3, 0] * 2


def test_an_epoch_of_plain_records_has_all_of_them():
    assert stream(num_records=103).epoch_size == 103


def test_fewer_records_than_a_batch_are_repeated():
    records = records_of(Loader([stream(num_records=3, batch_size=8)], seed=0), 0, 3)
    assert np.bincount(records).tolist() == [8, 8, 8]


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_buckets_hold_similar_lengths_in_every_epoch(epoch):
    lengths = np.random.default_rng(0).integers(3, 200, 1003)
    loader = Loader([stream(num_records=1003, lengths=lengths)], seed=0)
    # Whole batches of this epoch only; the one it shares with the next is mixed.
    first, last = -(-1003 * epoch // 8), 1003 * (epoch + 1) // 8
    spreads = [np.ptp(lengths[loader.batch(step)["record"]]) for step in range(first, last)]
    assert np.mean(spreads) < 10


def test_bucketed_batches_are_not_in_order_of_length():
    lengths = np.arange(1000)
    order = bucket(
        np.random.default_rng(0).permutation(1000), lengths, 10, np.random.default_rng(1)
    )
    assert sorted(order.tolist()) == list(range(1000))
    means = lengths[order].reshape(100, 10).mean(1)
    assert abs(np.corrcoef(means, np.arange(100))[0, 1]) < 0.4


def test_equal_lengths_stay_in_random_order():
    order = bucket(
        np.random.default_rng(0).permutation(64), np.zeros(64), 8, np.random.default_rng(1)
    )
    assert order[:8].tolist() != sorted(order[:8].tolist())


def fail_at(index, error):
    def encode_or_fail(record, rng):
        if record == index:
            raise error
        return encode(record, rng)

    return encode_or_fail


@pytest.mark.parametrize("num_workers", [0, 3])
def test_a_bad_sample_is_replaced_counted_and_named(num_workers):
    bad = BadSample("image 13.jpg", "truncated")
    loader = Loader([stream(encode=fail_at(13, bad))], seed=0, num_workers=num_workers,
                    bad_sample_limit=1.0)  # fmt: skip
    records = records_of(loader, 0, 52)
    assert len(records) == 52 * 8
    assert 13 not in records
    skipped = loader.skipped
    assert skipped["num_seen"] == 52 * 8 + skipped["num_skipped"]
    assert skipped["num_skipped"] >= 4  # once an epoch, and when drawn as a replacement
    assert skipped["samples"] == [
        {"stream": "text", "index": 13, "where": "image 13.jpg", "reason": "truncated"}
    ]


def test_replacements_do_not_depend_on_workers_or_start():
    options = {"seed": 0, "bad_sample_limit": 1.0}
    make = lambda workers: Loader(  # noqa: E731
        [stream(encode=fail_at(13, BadSample("a", "b")))], num_workers=workers, **options
    )
    straight = collect(make(0), 0, 30)
    assert collect(make(4), 0, 30) == straight
    assert collect(make(2), 11, 30) == straight[11:]


def always_bad_below(limit):
    def encode_or_fail(record, rng):
        if record < limit:
            raise BadSample(f"record {record}", "zero bytes")
        return encode(record, rng)

    return encode_or_fail


@pytest.mark.parametrize("num_workers", [0, 2])
def test_more_bad_samples_than_the_cap_stop_the_run(num_workers):
    loader = Loader([stream(1000, encode=always_bad_below(50))], seed=0, num_workers=num_workers)
    with pytest.raises(UserError, match=r"11 of \d+ samples cannot be used.*1%.*zero bytes"):
        collect(loader, 0, 125)
    assert loader.skipped["num_skipped"] == 11


def test_bad_samples_under_the_cap_do_not_stop_the_run():
    loader = Loader([stream(1000, encode=always_bad_below(9))], seed=0)
    assert len(collect(loader, 0, 125)) == 125
    assert loader.skipped["num_skipped"] in range(9, 11)


def test_a_stream_of_bad_samples_only_ends_with_its_name():
    loader = Loader([stream(5, encode=always_bad_below(5))], seed=0)
    with pytest.raises(UserError, match=r"stream 'text'.*zero bytes"):
        loader.batch(0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_in_encode_reaches_the_consumer(num_workers, caplog):
    loader = Loader([stream(encode=fail_at(13, ZeroDivisionError("mine")))], seed=0,
                    num_workers=num_workers)  # fmt: skip
    with pytest.raises(ZeroDivisionError, match="mine"):
        collect(loader, 0, 20)
    assert "record 13 of stream 'text'" in caplog.text
    assert not loader_threads()


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_closing_the_iterator_early_leaves_no_thread():
    batches = Loader([stream()], seed=0, num_workers=3).batches(0, 1000)
    next(batches)
    assert loader_threads()
    batches.close()
    assert not loader_threads()


def test_a_finished_iterator_leaves_no_thread():
    collect(Loader([stream()], seed=0, num_workers=3), 0, 10)
    assert not loader_threads()


def test_workers_prepare_batches_while_the_consumer_works():
    def slow(record, rng):
        time.sleep(0.02)
        return encode(record, rng)

    batches = Loader([stream(batch_size=1, encode=slow)], seed=0, num_workers=2).batches(0, 10)
    next(batches)
    time.sleep(0.3)  # four batches take two threads 0.04 s
    start = time.perf_counter()
    list(itertools.islice(batches, 3))
    assert time.perf_counter() - start < 0.05  # in line it would take 0.06


def test_workers_are_not_further_ahead_than_asked():
    made = []

    def count(record, rng):
        made.append(record)
        return encode(record, rng)

    loader = Loader([stream(batch_size=1, encode=count)], seed=0, num_workers=2, prefetch=3)
    batches = loader.batches(0, 100)
    next(batches)
    time.sleep(0.05)
    batches.close()
    assert len(made) <= 7


def test_one_large_batch_at_a_time_is_made_ahead(monkeypatch):
    monkeypatch.setattr("unimo_paddle.data.loader.AHEAD_BYTES", 1)
    made = []

    def count(record, rng):
        made.append(record)
        return encode(record, rng)

    loader = Loader([stream(batch_size=1, encode=count)], seed=0, num_workers=2, prefetch=3)
    batches = loader.batches(0, 100)
    for _ in range(3):
        next(batches)
        time.sleep(0.05)
    batches.close()
    assert len(made) == 4


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_is_gone_when_its_user_is_done_with_it(num_workers):
    batches = Loader([stream()], seed=0, num_workers=num_workers).batches(0, 10)
    array = weakref.ref(next(batches)["record"])
    assert array() is None
    batches.close()


def test_samples_are_not_kept_while_a_batch_is_made():
    alive = []

    def watch(record, rng):
        alive.append(sum(sample() is not None for sample in samples))
        sample = {"record": np.full(1, record)}
        samples.append(weakref.ref(sample["record"]))
        return sample

    samples = []
    fields = (Field("record", (1,)),)
    Loader([stream(encode=watch, fields=fields, batch_size=8)], seed=0).batch(0)
    assert max(alive) <= 1  # the one before


def test_empty_ranges_of_steps_give_no_batch():
    assert collect(Loader([stream()], seed=0, num_workers=2), 5, 5) == []


def test_lengths_of_a_stream_are_rounded_up():
    fields = (Field("input_ids", (None,), pad=1),)
    ids = lambda record, rng: {"input_ids": np.arange(record % 5 + 1)}  # noqa: E731
    loader = Loader([stream(encode=ids, fields=fields, multiple_of=8)], seed=0)
    assert loader.batch(0)["input_ids"].shape == (8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed -1"),
        ({"seed": 0, "num_workers": -1}, "num_workers -1"),
        ({"seed": 0, "prefetch": 0}, "prefetch 0"),
        ({"seed": 0, "bad_sample_limit": 2.0}, "bad_sample_limit 2.0"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(UserError, match=message):
        Loader([stream()], **options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(stream(num_records=0), "'text' has no records"), (stream(batch_size=0), "batch_size 0")],
)
def test_a_stream_without_use_is_named(wrong, message):
    with pytest.raises(UserError, match=message):
        Loader([wrong], seed=0)


def test_field_names_of_two_streams_must_differ():
    with pytest.raises(AssertionError, match="clash"):
        Loader([stream(), stream(name="second")], seed=0)
