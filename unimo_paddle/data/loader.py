"""Batches as a pure function of seed, rank, step and where each stream stood at an earlier step.

Position ``p`` of a stream is record ``order(epoch)[p % n]`` of epoch ``p // n``; a global batch
takes the next ``num_ranks * batch_size`` positions and every rank its slice. Nothing is dropped at
the end of an epoch: a batch may hold the last records of one epoch and the first of the next.
"""

from __future__ import annotations

import logging
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np

from unimo_paddle.data.fields import Batch, Field, Sample, collate
from unimo_paddle.errors import BadSample, UserError

logger = logging.getLogger(__name__)

# Batches sorted by length together: enough to fill buckets, few enough to stay random.
WINDOW_BATCHES = 64
# Below this many skipped samples a run is never stopped, however short it is.
TOLERATED_SAMPLES = 10
# Draws of a replacement before a stream counts as unusable.
MAX_REPLACEMENTS = 100
# Bytes that batches made ahead may hold together; one is made ahead however large it is.
AHEAD_BYTES = 2**30

Encode = Callable[[Any, np.random.Generator], Sample]


@dataclass(frozen=True)
class Stream:
    """One kind of records and how they become samples.

    Args:
        name: names the stream in messages and seeds its order.
        records: anything with a length and an index.
        encode: record and generator -> sample; raises BadSample for a record it cannot use. It is
            called from several threads and must depend on its arguments only.
        fields: what the samples hold; names differ between streams of a loader.
        batch_size: samples a batch and process.
        lengths: [n] sort keys for buckets of similar length; None for no buckets.
        multiple_of: padded lengths are rounded up to it.
        shuffle: False takes the records in their order, for ever; a bad one is replaced by the
            one after it.
    """

    name: str
    records: Sequence[Any]
    encode: Encode
    fields: tuple[Field, ...]
    batch_size: int
    lengths: np.ndarray | None = None
    multiple_of: int = 1
    shuffle: bool = True

    @property
    def epoch_size(self) -> int:
        """Records of an epoch; a sequence of several epochs says it itself."""
        return getattr(self.records, "epoch_size", len(self.records))


@dataclass(frozen=True)
class _Skip:
    """A bad sample met while a batch was made."""

    stream: str
    index: int
    bad: BadSample


class Loader:
    """Makes batches of one or several streams, in line or ahead of time by threads.

    Args:
        streams: their fields are merged into one batch.
        seed: of orders and of the generators given to ``encode``.
        num_workers: threads that prepare batches ahead; 0 prepares each when asked. The batches
            are the same for any number.
        shuffle: False takes the records of all streams in their order, for ever.
        rank, num_ranks: this process's slice of the global batch. The global order depends on
            the product of ``num_ranks`` and ``batch_size`` only.
        prefetch: batches ready or in work for each worker, fewer where they are large.
        bad_sample_limit: share of the samples seen that may be skipped (at least 10 may).
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        seed: int,
        num_workers: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        num_ranks: int = 1,
        prefetch: int = 2,
        bad_sample_limit: float = 0.01,
    ) -> None:
        _check_streams(streams)
        assert 0 <= rank < num_ranks, f"rank {rank} of {num_ranks}"
        if seed < 0:
            raise UserError(f"seed {seed} must not be negative")
        if num_workers < 0 or prefetch < 1:
            raise UserError(
                f"num_workers {num_workers} must be at least 0 and prefetch {prefetch} at least 1"
            )
        if not 0 <= bad_sample_limit <= 1:
            raise UserError(f"bad_sample_limit {bad_sample_limit} must lie in 0 .. 1")
        self._feeds = [_Feed(stream, seed, shuffle, rank, num_ranks) for stream in streams]
        self._num_workers, self._prefetch = num_workers, prefetch
        self._limit = bad_sample_limit
        self._num_seen = 0
        self._skips: dict[tuple[str, int], _Skip] = {}
        self._num_skipped = 0

    def position(self, step: int) -> dict[str, dict[str, int]]:
        """Where each stream stands before a step, for ``go_on``, as JSON holds it."""
        return {feed.stream.name: feed.position(step) for feed in self._feeds}

    def go_on(self, step: int, position: Mapping[str, Mapping[str, int]]) -> None:
        """Let streams stand before a step where others stood, whose batches were of any size.

        The order of records stays as theirs, as nothing of it depends on the number of ranks. A
        stream that is not named begins as if it had always been there.
        """
        for feed in self._feeds:
            if feed.stream.name in position:
                feed.go_on(step, **position[feed.stream.name])

    def batch(self, step: int) -> Batch:
        """The batch of a step: for each field of each stream an array [B, ...]."""
        return self._deliver(*self._make(step))

    def records(self, step: int) -> dict[str, list[int]]:
        """Which records of each stream this rank's batch of a step asks for."""
        return {feed.stream.name: feed.records(step) for feed in self._feeds}

    def batches(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """The batches of the steps from ``start_step`` up to ``stop_step``, in order.

        Threads live only while the iterator does; closing it early ends them.
        """
        if self._num_workers == 0:
            for step in range(start_step, stop_step):
                yield self.batch(step)
            return
        executor = ThreadPoolExecutor(self._num_workers, thread_name_prefix="loader")
        futures = (executor.submit(self._make, step) for step in range(start_step, stop_step))
        pending = deque(islice(futures, 1))
        try:
            num_ahead = self._num_ahead(*(future.result()[0] for future in pending))
            while pending:
                pending.extend(islice(futures, num_ahead + 1 - len(pending)))
                # No name here holds the batch: its memory is free as soon as its user is done.
                yield self._deliver(*pending.popleft().result())
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _num_ahead(self, *batches: Batch) -> int:
        """How many batches of this size are made ahead."""
        size = sum(array.nbytes for batch in batches for array in batch.values())
        return min(self._num_workers * self._prefetch, max(1, AHEAD_BYTES // max(size, 1)))

    @property
    def skipped(self) -> dict[str, Any]:
        """What was skipped in the batches delivered so far.

        ``num_seen`` and ``num_skipped`` count samples; ``samples`` names each bad record once.
        """
        samples = [
            {"stream": s.stream, "index": s.index, "where": s.bad.where, "reason": s.bad.reason}
            for s in self._skips.values()
        ]
        return {
            "num_seen": self._num_seen,
            "num_skipped": self._num_skipped,
            "samples": samples,
        }

    def _make(self, step: int) -> tuple[Batch, int, list[_Skip]]:
        assert step >= 0, f"step {step}"
        batch: Batch = {}
        skips: list[_Skip] = []
        for feed in self._feeds:
            stream = feed.stream
            samples = feed.samples(step, skips)
            batch |= collate(
                samples, stream.fields, multiple_of=stream.multiple_of, size=stream.batch_size
            )
        num_samples = sum(feed.stream.batch_size for feed in self._feeds)
        return batch, num_samples, skips

    # Counting happens on delivery, in order, so that it does not depend on the workers.
    def _deliver(self, batch: Batch, num_samples: int, skips: list[_Skip]) -> Batch:
        self._num_seen += num_samples + len(skips)
        self._num_skipped += len(skips)
        for skip in skips:
            if (skip.stream, skip.index) not in self._skips:
                self._skips[skip.stream, skip.index] = skip
                logger.warning("skipped a sample of '%s': %s", skip.stream, skip.bad)
        if skips:
            _check_limit(self._num_skipped, self._num_seen, self._limit, skips[-1])
        return batch


class _Feed:
    """The endless, indexable sequence of one stream's positions."""

    def __init__(self, stream: Stream, seed: int, shuffle: bool, rank: int, num_ranks: int) -> None:
        self.stream = stream
        # By name, not by place: switching one stream off leaves the others as they were.
        self._seed = (seed, zlib.crc32(stream.name.encode()))
        self._shuffle = shuffle and stream.shuffle
        self._offset = rank * stream.batch_size
        self._global_size = num_ranks * stream.batch_size
        self._bucket_size = self._global_size  # of records of similar length
        self._origin = (0, 0)  # a step, and the position before it
        self._orders: dict[int, np.ndarray] = {}
        self._lock = Lock()

    def samples(self, step: int, skips: list[_Skip]) -> Iterator[Sample]:
        """The samples of this rank at a step; bad ones are appended to ``skips``."""
        for position in self._positions(step):
            yield self._sample(position, skips)

    def records(self, step: int) -> list[int]:
        """The records of this rank at a step."""
        return [self._record(position)[1] for position in self._positions(step)]

    def position(self, step: int) -> dict[str, int]:
        """What ``go_on`` takes; ``step`` is not before the one that it was called with."""
        first, place = self._origin
        return {
            "position": place + (step - first) * self._global_size,
            "bucket_size": self._bucket_size,
        }

    def go_on(self, step: int, position: int, bucket_size: int) -> None:
        """Stand at a position before a step; records of similar length are as many as before."""
        self._origin = (step, position)
        self._bucket_size = bucket_size
        self._orders.clear()

    def _positions(self, step: int) -> range:
        start = self.position(step)["position"] + self._offset
        return range(start, start + self.stream.batch_size)

    def _record(self, position: int) -> tuple[int, int]:
        """The epoch of a position, and the record that stands there."""
        epoch, place = divmod(position, len(self.stream.records))
        return epoch, int(self._order(epoch)[place]) if self._shuffle else place

    def _sample(self, position: int, skips: list[_Skip]) -> Sample:
        stream = self.stream
        epoch, first = self._record(position)
        index = first
        for attempt in range(MAX_REPLACEMENTS):
            rng = np.random.default_rng((*self._seed, epoch, first, attempt))
            if attempt:
                index = self._replacement(first, attempt, rng)
            try:
                return stream.encode(stream.records[index], rng)
            except BadSample as bad:
                skips.append(_Skip(stream.name, index, bad))
            except Exception:
                logger.error("record %d of stream '%s' failed in encode", index, stream.name)
                raise
        raise UserError(
            f"stream '{stream.name}': {MAX_REPLACEMENTS} samples in a row cannot be used, "
            f"last {skips[-1].bad}"
        )

    def _replacement(self, first: int, attempt: int, rng: np.random.Generator) -> int:
        """The record that stands in for a bad one; drawn, unless the order is the records' own."""
        if self.stream.shuffle:
            return int(rng.integers(len(self.stream.records)))
        return (first + attempt) % len(self.stream.records)

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                # A batch meets two epochs at most, unless records are fewer than the batch.
                while len(self._orders) >= 4:
                    del self._orders[min(self._orders)]
                self._orders[epoch] = self._make_order(epoch)
            return self._orders[epoch]

    def _make_order(self, epoch: int) -> np.ndarray:
        num_records = len(self.stream.records)
        rng = np.random.default_rng((*self._seed, epoch))
        order = rng.permutation(num_records)
        if self.stream.lengths is None:
            return order
        # The first records complete the batch that the previous epoch began.
        head = min(-epoch * num_records % self._bucket_size, num_records)
        return np.concatenate(
            [order[:head], bucket(order[head:], self.stream.lengths, self._bucket_size, rng)]
        )


def bucket(
    order: np.ndarray, lengths: np.ndarray, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Rearrange a random order so that a batch holds records of similar length.

    Windows of 64 batches are sorted by length (ties stay random) and their batches shuffled; what
    does not fill a batch at the end stays random, at the end.
    """
    num_full = len(order) // batch_size * batch_size
    pieces = []
    for start in range(0, num_full, WINDOW_BATCHES * batch_size):
        window = order[start : min(start + WINDOW_BATCHES * batch_size, num_full)]
        window = window[np.argsort(lengths[window], kind="stable")].reshape(-1, batch_size)
        pieces.append(rng.permutation(window).ravel())
    return np.concatenate([*pieces, order[num_full:]])


def _check_streams(streams: Sequence[Stream]) -> None:
    assert streams, "a loader needs at least one stream"
    names = [field.name for stream in streams for field in stream.fields]
    assert len(names) == len(set(names)), f"field names clash between streams: {sorted(names)}"
    assert len({stream.name for stream in streams}) == len(streams), "stream names clash"
    for stream in streams:
        if len(stream.records) == 0:
            raise UserError(f"stream '{stream.name}' has no records; give it data or switch it off")
        if stream.batch_size < 1:
            raise UserError(f"stream '{stream.name}': batch_size {stream.batch_size} is below 1")
        assert stream.lengths is None or len(stream.lengths) == len(stream.records)


def _check_limit(num_skipped: int, num_seen: int, limit: float, last: _Skip) -> None:
    if num_skipped > max(TOLERATED_SAMPLES, limit * num_seen):
        raise UserError(
            f"{num_skipped} of {num_seen} samples cannot be used, more than the limit of "
            f"{limit:.0%}; last, of '{last.stream}': {last.bad}; mend or remove them"
        )
