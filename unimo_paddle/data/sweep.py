"""Every record once, in order, for evaluation; several processes take shares."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unimo_paddle.data.fields import Batch, Field, collate
from unimo_paddle.data.loader import TOLERATED_SAMPLES, Encode
from unimo_paddle.errors import BadSample, UserError

logger = logging.getLogger(__name__)

BAD_SAMPLE_LIMIT = 0.01  # share of the records that may be left out (at least 10 may)


def sweep(
    records: Sequence[Any],
    encode: Encode,
    fields: Sequence[Field],
    batch_size: int,
    *,
    seed: int = 0,
    multiple_of: int = 1,
    part: range | None = None,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Go over every record once, in order; the last batch may be smaller.

    Args:
        part: the records that this process goes over, whole batches of them; its caller judges
            by ``check_sweep`` what all processes left out together. None: all records.

    Yields:
        The batch and the indices [B] int64 of its records. A bad sample is logged and left out.
    """
    num_skipped = 0
    mine = range(len(records)) if part is None else part
    for start in mine[::batch_size]:
        samples, indices = [], []
        for index in range(start, min(start + batch_size, mine.stop)):
            try:
                rng = np.random.default_rng((seed, index))
                samples.append(encode(records[index], rng))
                indices.append(index)
            except BadSample as bad:
                num_skipped += 1
                logger.warning("skipped a sample: %s", bad)
        if samples:
            batch = collate(samples, fields, multiple_of=multiple_of)
            yield batch, np.asarray(indices, np.int64)
        _check_limit(num_skipped, len(records))
    if part is None:
        check_sweep(num_skipped, len(records))


def check_sweep(num_skipped: int, count: int) -> None:
    """Refuse a sweep over so many records, of all processes, that left out too many of them."""
    _check_limit(num_skipped, count)
    if num_skipped and num_skipped == count:
        raise UserError(f"none of the {count} records can be used; see the warnings above")


def _check_limit(num_skipped: int, count: int) -> None:
    if num_skipped > max(TOLERATED_SAMPLES, BAD_SAMPLE_LIMIT * count):
        raise UserError(
            f"{num_skipped} of {count} records cannot be used, more than the limit of "
            f"{BAD_SAMPLE_LIMIT:.0%}; the warnings name them: mend or remove them"
        )


def share_of_sweep(count: int, batch_size: int, rank: int, num_ranks: int) -> range:
    """The records, of so many, that a rank goes over: whole batches, so that all are the same."""
    num_batches = -(-count // batch_size)
    first, last = (num_batches * (rank + i) // num_ranks for i in range(2))
    return range(first * batch_size, min(last * batch_size, count))
