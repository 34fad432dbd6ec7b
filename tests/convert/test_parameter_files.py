"""The original's files: read and written byte for byte, and every damage one clear line."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.convert.parameter_files import read_header, read_parameter, write_parameter
from unimo_paddle.errors import UserError

NUM_MUTATIONS = 400
VALUES = np.arange(6, dtype="<f4").reshape(2, 3)
DESCRIPTION = b"\x08\x05\x10\x02\x10\x03"  # float32, 2, 3
MINUS_ONE = b"\xff" * 9 + b"\x01"


def pack(
    description: bytes = DESCRIPTION,
    values: bytes = VALUES.tobytes(),
    *,
    version: int = 0,
    levels: int = 0,
    inner_version: int = 0,
    size: int | None = None,
) -> bytes:
    size = len(description) if size is None else size
    return struct.pack("<IQIi", version, levels, inner_version, size) + description + values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "word_embedding"


# ---- what is right


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<i8"])
def test_written_parameters_are_read_back(path: Path, dtype: str) -> None:
    values = np.arange(300).reshape(3, 100).astype(dtype)
    write_parameter(path, values)
    found = read_parameter(path)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_bytes_are_those_of_paddle(path: Path) -> None:
    write_parameter(path, VALUES)
    assert path.read_bytes() == pack()


def test_large_dimensions_take_more_bytes(path: Path) -> None:
    write_parameter(path, np.zeros((50265, 1), "<f2"))
    assert path.read_bytes()[20:28] == b"\x08\x04\x10\xd9\x88\x03\x10\x01"


def test_transposed_values_are_written_in_order(path: Path) -> None:
    write_parameter(path, VALUES.T)
    np.testing.assert_array_equal(read_parameter(path), VALUES.T)


def test_packed_dimensions_are_read(path: Path) -> None:
    path.write_bytes(pack(b"\x08\x05\x12\x02\x02\x03"))
    np.testing.assert_array_equal(read_parameter(path), VALUES)


def test_header_tells_the_shape_without_the_values(path: Path) -> None:
    path.write_bytes(pack())
    header = read_header(path)
    assert (header.dtype, header.shape, header.offset) == (np.float32, (2, 3), 26)


def test_an_existing_file_is_not_overwritten(path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        write_parameter(path, VALUES)
    assert path.read_bytes() == b"precious"


def test_every_recorded_file_is_written_again_byte_for_byte(
    shared_dir: Path, tmp_path: Path
) -> None:
    folder = shared_dir / "reference" / "official" / "tiny_official_params"
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        write_parameter(tmp_path / name, read_parameter(folder / name))
    assert len(names) == 82
    assert [n for n in names if (tmp_path / n).read_bytes() != (folder / n).read_bytes()] == []


def test_recorded_files_hold_the_recorded_values(shared_dir: Path) -> None:
    folder = shared_dir / "reference" / "official"
    with np.load(folder / "tiny_params.npz") as expected:
        for name in expected.files:
            found = read_parameter(folder / "tiny_official_params" / name)
            np.testing.assert_array_equal(found, expected[name], err_msg=name)


# ---- what is wrong

DAMAGES = {
    "empty": (b"", "has 0 bytes, too few"),
    "header cut": (pack()[:19], "has 19 bytes, too few"),
    "other magic": (pack(version=7), "has version 7"),
    "other inner version": (pack(inner_version=1), "has version 1"),
    "safetensors": (b"\x40\0\0\0\0\0\0\0" + b'{"a": 1}' * 9, "has version 64"),
    "lod levels": (pack(levels=1), "has 1 levels of sequence lengths"),
    "absurd lod levels": (pack(levels=2**63), "levels of sequence lengths"),
    "no description": (pack(b""), "description of 0 bytes"),
    "negative description": (pack(size=-1), "description of -1 bytes"),
    "description beyond the file": (pack(values=b"", size=7), "description of 7 bytes"),
    "absurd description": (pack(size=2**31 - 1), "description of 2147483647 bytes"),
    "values cut": (pack()[:-1], "has 23 bytes of values where float32 of shape [2, 3] takes 24"),
    "no values": (pack(values=b""), "has 0 bytes of values"),
    "trailing bytes": (pack() + b"\0", "has 25 bytes of values"),
    "unknown data type": (pack(b"\x08\x06\x10\x02\x10\x03"), "values of data type 6; known are"),
    "no data type": (pack(b"\x10\x02\x10\x03"), "without a data type"),
    "no dimensions": (pack(b"\x08\x05", b"\0\0\0\0"), "has 0 dimensions"),
    "too many dimensions": (pack(b"\x08\x05" + b"\x10\x01" * 9, b"\0" * 4), "has 9 dimensions"),
    "negative dimension": (pack(b"\x08\x05\x10" + MINUS_ONE), "dimensions [-1]"),
    "two negative dimensions": (pack(b"\x08\x05" + (b"\x10" + MINUS_ONE) * 2), "[-1, -1]"),
    "dimension of nothing": (pack(b"\x08\x05\x10\x00\x10\x03", b""), "dimensions [0, 3]"),
    "absurd dimension": (pack(b"\x08\x05\x10" + b"\xff" * 8 + b"\x7f"), "9223372036854775807"),
    "product that wraps": (pack(b"\x08\x05" + b"\x10\x80\x80\x80\x80\x10" * 2), "takes 73786976"),
    "endless varint": (pack(b"\x08\x05\x10" + b"\xff" * 12), "number at byte 3"),
    "eleven-byte varint": (pack(b"\x08\x05\x10" + b"\x80" * 10 + b"\x01"), "that is too long"),
    "varint above 64 bits": (pack(b"\x08\x05\x10" + b"\xff" * 9 + b"\x02"), "that is too long"),
    "padded varint": (pack(b"\x08\x05\x10\x82\x00\x10\x03"), "that is too long"),
    "varint cut": (pack(b"\x08\x05\x10\x02\x10\x83"), "ends within a number"),
    "key without value": (pack(b"\x08\x05\x10\x02\x10"), "ends within a number"),
    "data type twice": (pack(b"\x08\x05\x08\x05\x10\x06"), "field 1 (key 8) a second time"),
    "packed twice": (pack(b"\x08\x05\x12\x01\x02\x12\x01\x03"), "field 2 (key 18) a second time"),
    "packed beside single": (pack(b"\x08\x05\x12\x01\x02\x10\x03"), "(key 16) a second time"),
    "packed too long": (pack(b"\x08\x05\x12\x09\x02\x03"), "has 9 bytes of dimensions; 2 follow"),
    "packed number cut": (pack(b"\x08\x05\x12\x01\x82\x03"), "ends within a number"),
    "unknown field": (pack(DESCRIPTION + b"\x18\x01"), "field 3 (key 24) that no tensor has"),
    "other wire type": (pack(b"\x0d\x05\0\0\0\x10\x06"), "field 1 (key 13) that no tensor has"),
}


@pytest.mark.parametrize(("data", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_one_line_that_names_file_and_remedy(path: Path, data, reason) -> None:
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_parameter(path)
    message = str(caught.value)
    assert str(path) in message and reason in message and "copy it anew" in message
    assert "\n" not in message


def test_missing_file_is_named(path: Path) -> None:
    with pytest.raises(UserError, match="word_embedding cannot be read: No such file"):
        read_parameter(path)


def test_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_parameter(tmp_path)


def mutate(data: bytes, generator: np.random.RandomState) -> bytes:
    """A valid file with some bytes changed, cut, doubled or put in, mostly near its beginning."""
    mutated = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        place = generator.randint(0, min(len(mutated), 40) if generator.rand() < 0.8 else len(data))
        kind = generator.randint(0, 5)
        if kind == 0:
            mutated[place] = generator.randint(0, 256)
        elif kind == 1:
            mutated[place] ^= 1 << generator.randint(0, 8)
        elif kind == 2:
            del mutated[place : place + generator.randint(1, 9)]
        elif kind == 3:
            mutated[place:place] = generator.bytes(generator.randint(1, 9))
        else:
            mutated[place : place + 4] = struct.pack("<I", generator.randint(0, 2**32, dtype="u4"))
        mutated = mutated or bytearray(b"\0")
    return bytes(mutated)


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_never_does_more_than_raise_a_user_error(path: Path, seed: int) -> None:
    generator = np.random.RandomState(seed)
    write_parameter(path, generator.randn(20, 15).astype("float32"))
    data = path.read_bytes()
    num_refused, peaks = 0, []
    for _ in range(NUM_MUTATIONS // 4):
        path.write_bytes(mutate(data, generator))
        tracemalloc.start()
        try:
            read_parameter(path)
        except UserError as error:
            assert "\n" not in str(error)
            num_refused += 1
        finally:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert num_refused > NUM_MUTATIONS // 8
    # The values once, the file's buffer, and the error's text.
    assert max(peaks) < 2 * len(data) + (1 << 18)
