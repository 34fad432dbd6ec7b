"""Fields: one declaration of what a sample holds feeds loader, programs, export and predictor."""

from __future__ import annotations

from collections.abc import Sequence
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


def collate(samples: Sequence[Sample], fields: Sequence[Field], *, multiple_of: int = 1) -> Batch:
    """Stack samples into one batch, padding the open axes.

    Args:
        samples: at least one sample; keys that no field names are left out.
        fields: what the batch holds.
        multiple_of: padded lengths are rounded up to it and are at least it, so that programs
            meet few shapes and never an empty axis.

    Returns:
        For each field an array [B, *shape].
    """
    assert samples, "collate needs at least one sample"
    assert multiple_of >= 1, f"multiple_of must be at least 1, not {multiple_of}"
    return {field.name: _stack(samples, field, multiple_of) for field in fields}


def _stack(samples: Sequence[Sample], field: Field, multiple_of: int) -> np.ndarray:
    values = [_value(sample, field, number) for number, sample in enumerate(samples)]
    if None not in field.shape:
        return np.stack(values)
    longest = np.max([value.shape for value in values], axis=0)
    shape = [
        max(-(-int(longest[axis]) // multiple_of), 1) * multiple_of if size is None else size
        for axis, size in enumerate(field.shape)
    ]
    stacked = np.full((len(values), *shape), field.pad, field.dtype)
    for row, value in zip(stacked, values, strict=True):
        row[tuple(map(slice, value.shape))] = value
    return stacked


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
