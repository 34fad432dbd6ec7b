"""Checkpoints of several files, and checkpoints that are written beside what goes on."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle import checkpoint, checkpoint_writer
from unimo_paddle.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from unimo_paddle.checkpoint_writer import CheckpointWriter
from unimo_paddle.errors import UserError

ARRAYS = {
    "a": np.arange(6, dtype="float32"),
    "b": np.arange(100, dtype="float32"),
    "c": np.arange(5, dtype="int64").reshape(1, 5),
    "d": np.array(3.0, dtype="float32"),
}
SHARDS = ["arrays-00001-of-00003.safetensors", "arrays-00002-of-00003.safetensors"]
SHARDS += ["arrays-00003-of-00003.safetensors"]


@pytest.fixture
def sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose second array is larger than a file should be."""
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 64)
    save_checkpoint(tmp_path, 1, {"a": ARRAYS["a"]}, {}, keep=2)
    return save_checkpoint(tmp_path, 2, ARRAYS, {"seed": 3}, keep=2)


def test_large_arrays_take_several_files(sharded: Path) -> None:
    assert sorted(path.name for path in sharded.glob("*.safetensors")) == SHARDS
    loaded = load_checkpoint(sharded)
    assert (loaded.step, loaded.state) == (2, {"seed": 3})
    assert loaded.arrays.keys() == ARRAYS.keys()
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(loaded.arrays[name], expected, strict=True)


@pytest.mark.parametrize("name", SHARDS)
def test_damage_to_any_of_them_is_named(sharded: Path, name: str) -> None:
    path = sharded / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"{name} is damaged.*newest good one is .*step-1"):
        load_checkpoint(sharded)
    path.unlink()
    with pytest.raises(UserError, match=rf"{name} cannot be read \(No such file"):
        load_checkpoint(sharded)


def test_a_manifest_that_names_other_files_is_refused(sharded: Path) -> None:
    manifest = json.loads((sharded / "manifest.json").read_bytes())["files"]
    manifest["../step-1/arrays.safetensors"] = manifest.pop(SHARDS[0])
    (sharded / "manifest.json").write_bytes(checkpoint._manifest(manifest))
    with pytest.raises(UserError, match=r"manifest\.json cannot be read \(KeyError"):
        load_checkpoint(sharded)


# ---- beside what goes on


def test_a_save_goes_on_beside_its_caller(tmp_path: Path, monkeypatch) -> None:
    may_end = threading.Event()

    def slow(*arguments: object, **options: object) -> Path:
        assert may_end.wait(60)
        return save_checkpoint(*arguments, **options)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", slow)
    with CheckpointWriter() as writer:
        writer.save(tmp_path, 1, ARRAYS, {}, keep=1)
        writer.check()  # it is not finished, and nobody waits
        assert not checkpoints(tmp_path)
        may_end.set()
        writer.save(tmp_path, 2, ARRAYS, {}, keep=2)  # waits for the first
        assert checkpoints(tmp_path)[0].name == "step-1"
    assert [path.name for path in checkpoints(tmp_path)] == ["step-1", "step-2"]


@pytest.mark.parametrize("call", ["check", "wait", "save", "leave"])
def test_what_goes_wrong_is_raised_by_the_next_call(tmp_path: Path, call: str) -> None:
    (tmp_path / "file").write_text("")
    writer = CheckpointWriter()
    writer.save(tmp_path / "file", 1, ARRAYS, {}, keep=1)
    writer._pending.exception(60)  # until it is finished
    with pytest.raises(UserError, match="cannot save checkpoint"), writer:
        if call == "save":
            writer.save(tmp_path, 2, ARRAYS, {}, keep=1)
        elif call != "leave":
            getattr(writer, call)()


def test_an_error_on_the_way_is_not_hidden_by_a_save_nor_hides_it(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZeroDivisionError), CheckpointWriter() as writer:
        writer.save(tmp_path / "file", 1, ARRAYS, {}, keep=1)
        raise ZeroDivisionError
    assert "cannot save checkpoint" in caplog.text


def test_a_run_goes_on_where_an_old_checkpoint_cannot_be_removed(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    save_checkpoint(tmp_path, 1, ARRAYS, {}, keep=1)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint, "_remove_folder", refuse)
    assert load_checkpoint(save_checkpoint(tmp_path, 2, ARRAYS, {}, keep=1)).step == 2
    assert f"{tmp_path / 'step-1'} cannot be removed (Permission denied)" in caplog.text
