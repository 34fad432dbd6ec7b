"""Files of named arrays, safetensors or npz: shapes at once, values one at a time.

Neither format can hold anything that runs. Pickles (``.pdparams``, ``.bin``, ``.pt``) are refused:
loading one executes what it says, and the two formats above hold the same arrays.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors

from unimo_paddle.convert.parameters import shown
from unimo_paddle.convert.sources import to_float32
from unimo_paddle.errors import UserError

PICKLES = (".pdparams", ".pdiparams", ".bin", ".pt", ".pth", ".pkl", ".ckpt")
READABLE_TYPES = ("F32", "F16")
MAX_EXPANSION = 16  # weights hardly compress; what does is made to fill the memory
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][a-z][0-9]{1,2})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,12}, ?)*(?:[0-9]{1,12})?)\), \} *\n"
)


@dataclass(frozen=True)
class Arrays:
    """Named arrays in a file."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]  # by name: contiguous float32


def open_arrays(path: Path, names: tuple[str, ...]) -> Arrays:
    """Open a file of arrays, or the first of ``names`` that the folder ``path`` has."""
    if path.is_dir():
        path = _find(path, names)
    if path.suffix in PICKLES:
        raise UserError(
            f"{path} is a pickle, and loading one runs whatever it says; save its arrays as "
            "safetensors or npz where you trust it (docs/weights.md shows how)"
        )
    if not path.is_file():
        raise UserError(f"there is no file {path}; give a .safetensors or .npz file, or its folder")
    if path.suffix == ".npz":
        return _open_npz(path)
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    raise UserError(f"{path} is neither .safetensors nor .npz; give one of these")


def check_equal(arrays: Arrays, name: str, other: str) -> None:
    """Make sure that two arrays that are one in the program they come from are equal."""
    if not np.array_equal(arrays.read(name), arrays.read(other)):
        raise UserError(
            f"{arrays.path}: {shown(name)} differs from {shown(other)}, but the two are one there; "
            f"leave out the one that is wrong, such as by --skip {shown(name)}"
        )


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        return pickles[0]
    raise UserError(f"{folder} holds none of {', '.join(names)}; name the file itself")


def _unreadable(path: Path, problem: object) -> UserError:
    return UserError(f"{path} cannot be read: {shown(str(problem))}; copy it anew")


def _open_safetensors(path: Path) -> Arrays:
    try:
        file = safetensors.safe_open(path, framework="np")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error
    types = {name: part.get_dtype() for name, part in slices.items()}

    def read(name: str) -> np.ndarray:
        where = f"{path}: {shown(name)}"
        if types[name] not in READABLE_TYPES:
            raise UserError(
                f"{where} is of type {types[name]}; {' and '.join(READABLE_TYPES)} are read: "
                "convert it first"
            )
        try:
            values = file.get_tensor(name)
        except (OSError, safetensors.SafetensorError) as error:
            raise _unreadable(path, error) from error
        return to_float32(values, where)

    return Arrays(path, {name: tuple(part.get_shape()) for name, part in slices.items()}, read)


@dataclass(frozen=True)
class _Member:
    """An array in an npz file."""

    info: zipfile.ZipInfo
    dtype: np.dtype
    shape: tuple[int, ...]
    order: str  # of the axes: "C" or "F"
    offset: int


# By hand rather than by `np.load`, which makes an array of whatever size a header claims.
def _open_npz(path: Path) -> Arrays:
    failures = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
    members: dict[str, _Member] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in members:
                    raise ValueError(f"{shown(name)} is there twice")
                members[name] = _read_member(archive, info)
            expanded = sum(member.info.file_size for member in members.values())
            if expanded > MAX_EXPANSION * max(path.stat().st_size, 1 << 16):
                raise ValueError(f"it expands to {expanded} bytes, which no weights do")
    except failures as error:
        raise _unreadable(path, error) from error

    def read(name: str) -> np.ndarray:
        member = members[name]
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member.info) as file:
                data = file.read()[member.offset :]
            values = np.frombuffer(data, member.dtype).reshape(member.shape, order=member.order)
        except failures as error:
            raise _unreadable(path, f"{name}: {error}") from error
        return to_float32(values, f"{path}: {shown(name)}")

    return Arrays(path, {name: member.shape for name, member in members.items()}, read)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    """Read the header of an array; a ``ValueError`` when it does not fit what follows."""
    name = shown(info.filename)
    with archive.open(info) as file:
        start = file.read(len(_NPY_MAGIC) + 2)
        if len(start) < len(_NPY_MAGIC) + 2 or not start.startswith(_NPY_MAGIC):
            raise ValueError(f"{name} is no array as np.savez writes it")
        (length,) = struct.unpack("<H", start[-2:])
        header = _NPY_HEADER.fullmatch(file.read(length))
    if header is None:
        raise ValueError(f"{name} has no header of an array of numbers")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(size) for size in header[3].split(b",") if size.strip())
    offset = len(start) + length
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != info.file_size - offset:
        found = info.file_size - offset
        raise ValueError(f"{name} has {found} bytes of values, which is not {dtype} {list(shape)}")
    return _Member(info, dtype, shape, "F" if header[2] == b"True" else "C", offset)
