"""Files of named arrays: damage is one clear line, and nothing in them is ever run."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from unimo_paddle.convert.arrays import open_arrays
from unimo_paddle.errors import UserError

ARRAYS = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.ones(4, "float16")}
NUM_MUTATIONS = 300


@pytest.fixture(params=["x.npz", "x.safetensors"])
def path(request, tmp_path: Path) -> Path:
    """A good file of each format."""
    path = tmp_path / request.param
    np.savez(path, **ARRAYS) if path.suffix == ".npz" else save_file(ARRAYS, path)
    return path


def npy(header: str, data: bytes = b"\0" * 24, magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return magic + struct.pack("<H", len(text)) + text + data


def header(shape: str = "(2, 3)", descr: str = "<f4") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


def object_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object))
    return buffer.getvalue()


def read_all(path: Path) -> dict[str, np.ndarray]:
    arrays = open_arrays(path, ())
    return {name: arrays.read(name) for name in arrays.shapes}


def test_arrays_are_read_as_float32(path: Path) -> None:
    found = read_all(path)
    assert set(found) == set(ARRAYS)
    for name, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, ARRAYS[name])


def test_shapes_are_known_before_the_values(path: Path) -> None:
    assert open_arrays(path, ()).shapes == {"a": (2, 3), "b": (4,)}


@pytest.mark.parametrize("length", [0, 5, 60])
def test_cut_files_are_refused(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="cannot be read"):
        open_arrays(path, ())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy(header("(1000000, 1000000)")), "24 bytes of values, which is not float32 [1000000"),
        (npy(header("(2, 3, 0)")), "24 bytes of values"),
        (npy(header(), b"\0" * 23), "23 bytes of values"),
        (npy(header("(2, -3)")), "no header of an array"),
        (npy(header(descr="|O")), "no header of an array"),
        (npy(header("(__import__('os'), 3)")), "no header of an array"),
        (npy(header(), magic=b"\x93NUMPY\x03\x00"), "no array as np.savez writes it"),
        (b"word", "no array as np.savez writes it"),
        (object_array(), "no header of an array"),
    ],
)
def test_npz_members_that_are_no_arrays_are_refused(tmp_path: Path, data, reason: str) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(UserError) as caught:
        open_arrays(path, ())
    assert reason in str(caught.value) and str(path) in str(caught.value)


def test_npz_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy(header()))
        archive.writestr("a", npy(header()))
    with pytest.raises(UserError, match="a is there twice"):
        open_arrays(path, ())


def test_damaged_values_of_an_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **ARRAYS)
    data = path.read_bytes()
    place = data.index(ARRAYS["a"].tobytes())
    path.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    with pytest.raises(UserError, match="Bad CRC"):
        read_all(path)


@pytest.mark.parametrize(
    ("kind", "reason"), [("BF16", "a is of type BF16"), ("F64", "a is of type F64")]
)
def test_other_types_are_named(tmp_path: Path, kind: str, reason: str) -> None:
    size = {"BF16": 2, "F64": 8}[kind]
    entry = {"a": {"dtype": kind, "shape": [3], "data_offsets": [0, 3 * size]}}
    text = json.dumps(entry).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 3 * size)
    with pytest.raises(UserError, match=reason):
        read_all(path)


@pytest.mark.parametrize("name", ["model_state.pdparams", "pytorch_model.bin", "model.pt"])
def test_pickles_are_refused_unopened(tmp_path: Path, name: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(UserError, match=r"is a pickle.*docs/weights\.md"):
            open_arrays(path, ("model.safetensors",))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no.npz", "there is no file"), ("x.txt", "neither .safetensors nor .npz"), ("", "none of")],
)
def test_what_is_no_file_of_arrays_is_told(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "x.txt").touch()
    with pytest.raises(UserError, match=reason):
        open_arrays(tmp_path / name, ("model.safetensors",))


def test_random_damage_never_does_more_than_raise_a_user_error(path: Path) -> None:
    generator, data = np.random.RandomState(7), path.read_bytes()
    peaks = []
    for _ in range(NUM_MUTATIONS):
        mutated = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            mutated[generator.randint(0, len(mutated))] = generator.randint(0, 256)
        path.write_bytes(mutated[: generator.randint(len(mutated) // 2, len(mutated) + 1)])
        tracemalloc.start()
        try:
            read_all(path)
        except UserError as error:
            assert "\n" not in str(error)
        finally:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert max(peaks) < 1100 * len(data)  # deflate cannot expand by more
