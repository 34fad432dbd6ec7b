"""Fields: one declaration of what a sample holds feeds loader, programs, export and predictor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unimo_paddle.errors import UserError

Sample = dict[str, np.ndarray]
Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Field:
    """One array of a sample.

    Args:
        name: the batch key, the feed name and the argument of the model.
        shape: of one sample; ``None`` marks an axis padded to the longest in the batch.
        dtype: NumPy name of the element type.
        pad: the value of the padding.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "int64"
    pad: float = 0


def collate(
    samples: Iterable[Sample],
    fields: Sequence[Field],
    *,
    multiple_of: int = 1,
    size: int | None = None,
) -> Batch:
    """Stack samples into one batch, padding the open axes.

    Each sample is copied as it comes and none is kept: a generator of samples needs no memory
    beside the batch.

    Args:
        samples: at least one sample; keys that no field names are left out.
        fields: what the batch holds.
        multiple_of: padded lengths are rounded up to it and are at least it, so that programs
            meet few shapes and never an empty axis.
        size: how many samples there are, where they do not tell it themselves.

    Returns:
        For each field an array [B, *shape].
    """
    size = len(samples) if size is None else size
    assert size, "collate needs at least one sample"
    assert multiple_of >= 1, f"multiple_of must be at least 1, not {multiple_of}"
    batch: Batch = {}
    for number, sample in enumerate(samples):
        for field in fields:
            value = _value(sample, field, number)
            room = _room(field, value.shape, multiple_of)
            stacked = batch.get(field.name)
            if stacked is None or np.any(np.less(stacked.shape[1:], room)):
                stacked = batch[field.name] = _widened(stacked, room, field, size)
            stacked[(number, *map(slice, value.shape))] = value
    return {field.name: batch[field.name] for field in fields}


def _room(field: Field, shape: Sequence[int], multiple_of: int) -> tuple[int, ...]:
    """The shape that a value takes in a batch: open axes are rounded up and never empty."""
    return tuple(
        max(-(-length // multiple_of), 1) * multiple_of if declared is None else declared
        for declared, length in zip(field.shape, shape, strict=True)
    )


def _widened(
    stacked: np.ndarray | None, room: tuple[int, ...], field: Field, size: int
) -> np.ndarray:
    """An array with the same rows, padded to hold ``room``; a new one where there is none yet."""
    if stacked is None:
        return np.full((size, *room), field.pad, field.dtype)
    shape = np.maximum(stacked.shape[1:], room)
    wide = np.full((size, *shape), field.pad, field.dtype)
    wide[tuple(map(slice, stacked.shape))] = stacked
    return wide


def _value(sample: Sample, field: Field, number: int) -> np.ndarray:
    if field.name not in sample:
        raise UserError(
            f"sample {number} of the batch has no field '{field.name}', only "
            f"{', '.join(sorted(sample)) or 'nothing'}; encode must return every declared field"
        )
    value = np.asarray(sample[field.name])
    if not np.can_cast(value.dtype, field.dtype, "same_kind"):
        raise UserError(
            f"field '{field.name}' of sample {number} holds {value.dtype}, which does not fit "
            f"{field.dtype} without loss; convert it in encode"
        )
    fits = value.ndim == len(field.shape) and all(
        size is None or size == length
        for size, length in zip(field.shape, value.shape, strict=False)
    )
    if not fits:
        raise UserError(
            f"field '{field.name}' of sample {number} has shape {list(value.shape)}; "
            f"declared is {list(field.shape)} (None is any length)"
        )
    return value.astype(field.dtype, copy=False)
