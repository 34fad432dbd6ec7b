"""Promise 9: weights from anywhere run nothing, fill no memory, and are refused in one line."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from unimo_paddle import settings
from unimo_paddle.checkpoint import load_checkpoint
from unimo_paddle.config import RunConfig, build_trainer
from unimo_paddle.convert import ORIGINS, convert
from unimo_paddle.data.visual_words import VisualWords
from unimo_paddle.errors import UserError
from unimo_paddle.predictor import Predictor
from unimo_paddle.tasks.retrieval_data import FEATURE_NAMES, read_features

MOST_MEMORY = 64 << 10  # KiB that a refused file may add to what the process has held
LONGEST_MESSAGE = 1_000
PICKLE_NAMES = (
    *("model_state.pdparams", "pytorch_model.bin", "model.pt", "model.pth", "model.pkl"),
    *("model.ckpt", "model.pdiparams", "model.npy", "model.npz", "model.safetensors", "model"),
)

pytestmark = pytest.mark.usefixtures("static_graph")


def trap(folder: Path) -> bytes:
    """A pickle that makes a file in the folder when it is loaded."""

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(folder / "sprung"),)

    return pickle.dumps({"word_embedding": Trap()})


def archive(**members: bytes) -> bytes:
    """A zip file, which is what torch and NumPy write."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def refused(function: Callable, *arguments: object, **options: object) -> str:
    """The line with which a call is refused."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert message.isprintable() and ";" in message and len(message) < LONGEST_MESSAGE, message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY
    return message


# ---- pickles


@pytest.mark.parametrize("name", PICKLE_NAMES)
@pytest.mark.parametrize("form", ["pickle", "zip", "object array"])
def test_a_pickle_is_refused_by_every_reader_and_runs_nothing(
    tmp_path: Path, name: str, form: str
) -> None:
    data = trap(tmp_path)
    if form == "zip":
        data = archive(**{"archive/data.pkl": data, "archive/version": b"3"})
    elif form == "object array":
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + data
        data = archive(**{"word_embedding.npy": npy}) if name.endswith(".npz") else npy
    folder = tmp_path / "weights"
    folder.mkdir()
    path = folder / name
    path.write_bytes(data)
    for given in (path, folder):
        for origin in ORIGINS:
            to = "original" if origin == "ours" else "ours"
            message = refused(convert, origin, given, tmp_path / "out", destination=to)
            assert str(folder) in message and not (tmp_path / "out").exists()
        refused(load_checkpoint, given)
        refused(Predictor, given)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["model_state.pdparams", ""], ids=["file", "folder"])
def test_a_run_starts_from_no_pickle(tmp_path: Path, write_run_file, name: str) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model_state.pdparams").write_bytes(trap(tmp_path))
    changes = {"train.start_from": str(tmp_path / "weights" / name)}
    changes |= {"output_dir": str(tmp_path / "run"), "evaluation.splits": []}
    config = settings.load(RunConfig, write_run_file(tmp_path / "run.yaml", changes))
    with pytest.raises(UserError, match=r"train\.start_from .*weights.* is no checkpoint"):
        build_trainer(config)
    assert not (tmp_path / "sprung").exists()


def test_the_trap_of_these_tests_would_spring(tmp_path: Path) -> None:
    pickle.loads(trap(tmp_path))
    assert (tmp_path / "sprung").exists()


# ---- files of arrays that lie about their size


def safetensors(header: bytes, size: int | None = None, data: bytes = b"\0" * 24) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def entry(shape: list, offsets: list, kind: str = "F32") -> bytes:
    tensor = {"dtype": kind, "shape": shape, "data_offsets": offsets}
    return json.dumps({"word_embedding": tensor}).encode()


def npz(shape: str, data: bytes = b"\0" * 24) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data
    return archive(**{"word_embedding.npy": npy})


TWICE = entry([6], [0, 24])[:-1] + b", " + entry([6], [0, 24])[1:]
BOMBS = {
    "header beyond the file.safetensors": safetensors(b"{}", 2**40),
    "header of all memory.safetensors": safetensors(b"{}", 2**64 - 1),
    "deep header.safetensors": safetensors(b'{"a":' * 100_000),
    "huge shape.safetensors": safetensors(entry([2**40, 2**20], [0, 24])),
    "product that wraps.safetensors": safetensors(entry([2**32, 2**32], [0, 0])),
    "offsets beyond the file.safetensors": safetensors(entry([2**30], [0, 2**32])),
    "offsets backwards.safetensors": safetensors(entry([6], [24, 0])),
    "negative shape.safetensors": safetensors(entry([-6], [0, 24])),
    "shape of words.safetensors": safetensors(entry(["6"], [0, 24])),
    "a key twice.safetensors": safetensors(TWICE),
    "huge shape.npz": npz("(1000000000, 1000000000)"),
    "negative shape.npz": npz("(-1, 6)"),
    "code for a shape.npz": npz("(__import__('os').mkdir('x'), 6)"),
    "zeros that expand.npz": npz("(10000000,)", bytes(40_000_000)),
    "no archive.npz": b"PK\x03\x04" + b"\0" * 100,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_lies_about_its_size_fills_no_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BOMBS[name])
    for origin in ("roberta", "paddlenlp"):
        assert str(path) in refused(convert, origin, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", ["(1000000000, 1000000000)", "(100000000000,)", "(-1, 6)"])
def test_other_arrays_that_lie_about_their_size_fill_no_memory(tmp_path: Path, shape: str) -> None:
    """Visual words and mined features are read by NumPy itself."""
    member = zipfile.ZipFile(io.BytesIO(npz(shape))).read("word_embedding.npy")
    names = (*FEATURE_NAMES, *(field.name for field in fields(VisualWords)))
    path = tmp_path / "arrays.npz"
    path.write_bytes(archive(**{f"{name}.npy": member for name in names}))
    table = SimpleNamespace(images=[None] * 3, path=path)
    assert str(path) in refused(VisualWords.load, path)
    assert str(path) in refused(read_features, path, table)
