"""The original's files: one parameter each, as Paddle 1.8 wrote them.

Little endian: u32 version 0; u64 number of LoD levels; u32 version 0; i32 size of a description;
the description, a protobuf message TensorDesc {1: data type, 2: repeated int64 dims}; the values.
Reading trusts nothing: every size is held against the size of the file before it is used, and a
file is read whole or not at all.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from unimo_paddle.errors import UserError

_PREFIX = struct.Struct("<IQIi")  # version, LoD levels, version, size of the description
_DATA_TYPES = {4: np.dtype("<f2"), 5: np.dtype("<f4"), 3: np.dtype("<i8")}
_DATA_TYPE_KEY, _DIM_KEY, _PACKED_DIMS_KEY = 0x08, 0x10, 0x12  # field number and wire type
MAX_AXES = 8  # more than any parameter has
MAX_DESCRIPTION_SIZE = 2 + MAX_AXES * 11  # a data type, and ten bytes and a key an axis
MAX_VARINT_SIZE = 10  # bytes of 64 bits, seven a byte


@dataclass(frozen=True)
class Header:
    """What a file says of its values before they begin."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int  # byte at which the values begin


class _Malformed(Exception):
    """Something in a file that Paddle 1.8 did not write."""


def read_header(path: Path) -> Header:
    """Read what ``path`` holds, without its values, and check that they are all there."""
    with _open(path) as file:
        return _read_header(file, path)


def read_parameter(path: Path) -> np.ndarray:
    """Read the array in ``path``; anything wrong with the file is one ``UserError``."""
    with _open(path) as file:
        header = _read_header(file, path)
        values = np.empty(header.shape, header.dtype)
        try:
            num_read = file.readinto(memoryview(values).cast("B"))
        except OSError as error:
            raise _error(path, f"cannot be read: {error.strerror}") from error
        if num_read != values.nbytes:  # it shrank meanwhile
            raise _error(path, f"ends after {num_read} of {values.nbytes} bytes of values")
    return values


def check_parameters(path: Path) -> None:
    """Check a file of parameters one after the other, as Paddle writes those of a graph.

    Each must be whole, and nothing else be there.
    """
    with _open(path) as file:
        size, start = os.fstat(file.fileno()).st_size, 0
        try:
            while start < size:
                file.seek(start)
                header = _parse_header(file, size - start, is_alone=False)
                start += header.offset + math.prod(header.shape) * header.dtype.itemsize
        except OSError as error:
            raise _error(path, f"cannot be read: {error.strerror}") from error
        except _Malformed as problem:
            raise _error(path, f"{problem} (from byte {start} on)") from problem


def write_parameter(path: Path, values: np.ndarray) -> None:
    """Write ``values`` to a new file, byte for byte as Paddle 1.8 would."""
    values = np.ascontiguousarray(values)
    types = {dtype: number for number, dtype in _DATA_TYPES.items()}
    assert values.dtype in types and values.size and 1 <= values.ndim <= MAX_AXES, values.dtype
    description = bytes([_DATA_TYPE_KEY, types[values.dtype]])
    for size in values.shape:
        description += bytes([_DIM_KEY]) + _varint(size)
    with open(path, "xb") as file:
        file.write(_PREFIX.pack(0, 0, 0, len(description)) + description)
        file.write(memoryview(values).cast("B"))


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(
            f"parameter file {path} cannot be read: {error.strerror}; check the path"
        ) from error


def _error(path: Path, reason: str) -> UserError:
    return UserError(f"parameter file {path} {reason}; copy it anew from where it came")


def _read_header(file: BinaryIO, path: Path) -> Header:
    try:
        return _parse_header(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror}") from error
    except _Malformed as problem:
        raise _error(path, str(problem)) from problem


def _parse_header(file: BinaryIO, size: int, *, is_alone: bool = True) -> Header:
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        raise _Malformed(f"has {size} bytes, too few for a header of {_PREFIX.size}")
    version, num_levels, inner_version, description_size = _PREFIX.unpack(prefix)
    for found in (version, inner_version):
        if found:
            raise _Malformed(f"has version {found} where Paddle 1.8 writes 0: it is no parameter")
    if num_levels:
        raise _Malformed(f"has {num_levels} levels of sequence lengths (LoD); a parameter has none")
    offset = _PREFIX.size + description_size
    if not 0 < description_size <= MAX_DESCRIPTION_SIZE or offset > size:
        raise _Malformed(
            f"has a description of {description_size} bytes; give 1 to {MAX_DESCRIPTION_SIZE}, "
            f"and not more than the {size - _PREFIX.size} that follow"
        )
    dtype, shape = _parse_description(file.read(description_size))
    needed, found = math.prod(shape) * dtype.itemsize, size - offset
    if needed > found or (is_alone and needed != found):
        raise _Malformed(
            f"has {found} bytes of values where {dtype.name} of shape {list(shape)} takes {needed}"
        )
    return Header(dtype, shape, offset)


# Two fields by hand, in place of the protobuf package: that would be one more dependency, would
# pass over unknown and repeated fields, and has no bound of its own.
def _parse_description(data: bytes) -> tuple[np.dtype, tuple[int, ...]]:
    number: int | None = None
    dims: list[int] = []
    is_packed, place = False, 0
    while place < len(data):
        key, place = _parse_varint(data, place)
        if key == _DATA_TYPE_KEY and number is None:
            number, place = _parse_varint(data, place)
        elif key == _DIM_KEY and not is_packed:
            dim, place = _parse_varint(data, place)
            dims.append(dim)
        elif key == _PACKED_DIMS_KEY and not is_packed and not dims:
            length, place = _parse_varint(data, place)
            end, is_packed = place + length, True
            if end > len(data):
                raise _Malformed(f"has {length} bytes of dimensions; {len(data) - place} follow")
            while place < end:
                dim, place = _parse_varint(data[:end], place)
                dims.append(dim)
        else:
            known = (_DATA_TYPE_KEY, _DIM_KEY, _PACKED_DIMS_KEY)
            kind = "a second time" if key in known else "that no tensor has"
            raise _Malformed(f"has a description with field {key >> 3} (key {key}) {kind}")
    if number is None:
        raise _Malformed("has a description without a data type")
    if number not in _DATA_TYPES:
        names = ", ".join(f"{known} ({dtype.name})" for known, dtype in _DATA_TYPES.items())
        raise _Malformed(f"has values of data type {number}; known are {names}")
    if not 1 <= len(dims) <= MAX_AXES:
        raise _Malformed(f"has {len(dims)} dimensions; a parameter has 1 to {MAX_AXES}")
    signed = [dim - (1 << 64) if dim >= 1 << 63 else dim for dim in dims]
    if min(signed) < 1:
        raise _Malformed(f"has dimensions {signed}; each must be at least 1")
    return _DATA_TYPES[number], tuple(signed)


def _parse_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at ``place`` and the place after it."""
    value = 0
    for length, byte in enumerate(data[place : place + MAX_VARINT_SIZE]):
        value |= (byte & 0x7F) << (7 * length)
        if byte < 0x80:
            if value >= 1 << 64 or (length and not byte):
                raise _Malformed(
                    f"has a number at byte {place} of its description that is too long"
                )
            return value, place + length + 1
    if len(data) - place >= MAX_VARINT_SIZE:
        raise _Malformed(f"has a number at byte {place} of its description that is too long")
    raise _Malformed("has a description that ends within a number")


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low]) if not rest else bytes([low | 0x80]) + _varint(rest)
