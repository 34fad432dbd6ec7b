"""Checkpoints survive kills, and damage to them is seen and named."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle import checkpoint
from unimo_paddle.checkpoint import (
    checkpoints,
    describe_mismatch,
    latest_checkpoint,
    load_checkpoint,
    remove_unfinished,
    save_checkpoint,
)
from unimo_paddle.errors import UserError

STATE = {"schedule": {"last_epoch": 7}, "skipped": ["a.jpg"], "scale": 0.1}
FILES = ("arrays.safetensors", "state.json", "manifest.json")


def arrays_of(step: int) -> dict[str, np.ndarray]:
    return {
        "encoder.w_0": np.random.default_rng(step).normal(size=(3, 5)).astype("float32"),
        "counter": np.array(step, dtype="int64"),
        "empty": np.zeros((0, 4), dtype="float32"),
        "half": np.arange(6, dtype="uint16").reshape(2, 3),  # bfloat16 as Paddle hands it out
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "mask": np.array([True, False]),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with checkpoints of steps 1 and 2."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, arrays_of(step), STATE, keep=3)
    return tmp_path


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    loaded = load_checkpoint(save_checkpoint(tmp_path, 7, arrays_of(7), STATE, keep=1))
    assert (loaded.step, loaded.state) == (7, STATE)
    for name, expected in arrays_of(7).items():
        assert loaded.arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(loaded.arrays[name], expected, strict=True)


def test_saving_the_same_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [save_checkpoint(tmp_path / str(i), 1, arrays_of(1), STATE, keep=1) for i in range(2)]
    assert [(paths[0] / name).read_bytes() for name in FILES] == [
        (paths[1] / name).read_bytes() for name in FILES
    ]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100, 20):
        save_checkpoint(tmp_path, step, arrays_of(step), STATE, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-20", "step-100"]


def test_latest_is_the_highest_step(saved: Path) -> None:
    assert latest_checkpoint(saved) == saved / "step-2"
    assert (saved / "latest").read_text() == "step-2\n"


def test_no_checkpoint_is_no_latest(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None


def test_a_checkpoint_is_not_written_over(saved: Path) -> None:
    with pytest.raises(UserError, match="step-2: it is there already; remove it"):
        save_checkpoint(saved, 2, {"only": np.ones(2)}, {}, keep=3)
    assert load_checkpoint(saved / "step-2").arrays.keys() == arrays_of(2).keys()
    assert sorted(path.name for path in saved.iterdir()) == ["latest", "step-1", "step-2"]


def test_leftovers_of_an_interrupted_save_are_removed(saved: Path) -> None:
    (saved / "step-3.tmp").mkdir()
    (saved / "step-3.tmp" / "arrays.safetensors").write_bytes(b"half")
    (saved / "step-1.old.tmp").mkdir()
    (saved / "latest.tmp").write_text("step")
    (saved / "notes.tmp").write_text("the user's own")
    removed = [path.name for path in remove_unfinished(saved)]
    assert removed == ["latest.tmp", "step-1.old.tmp", "step-3.tmp"]
    assert sorted(path.name for path in saved.iterdir()) == [
        "latest",
        "notes.tmp",
        "step-1",
        "step-2",
    ]


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_byte_is_detected(saved: Path, name: str) -> None:
    path = saved / "step-2" / name
    size = path.stat().st_size
    original = path.read_bytes()
    unseen = []
    for position in range(0, size, max(1, size // 60)):
        flip(path, position, bit=position % 8)
        try:
            load_checkpoint(saved / "step-2")
            unseen.append(position)
        except UserError as error:
            assert str(path) in str(error)
            assert f"the newest good one is {saved / 'step-1'}" in str(error)
            assert "\n" not in str(error)
        path.write_bytes(original)
    assert unseen == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "zeroed", "empty", "longer"])
def test_damaged_file_is_named(saved: Path, name: str, damage: str) -> None:
    path = saved / "step-2" / name
    data = path.read_bytes()
    path.unlink()
    contents = {
        "truncated": data[:-1],
        "zeroed": bytes(len(data)),
        "empty": b"",
        "longer": data + b" ",
    }
    if damage != "missing":
        path.write_bytes(contents[damage])
    with pytest.raises(UserError, match=f"step-2/{name} .*; the newest good one is .*step-1"):
        load_checkpoint(saved / "step-2")


def test_damaged_neighbour_is_not_offered(saved: Path) -> None:
    flip(saved / "step-1" / "arrays.safetensors", -1)
    flip(saved / "step-2" / "arrays.safetensors", -1)
    with pytest.raises(UserError, match="no other good one"):
        load_checkpoint(saved / "step-2")


def test_absent_checkpoint_is_one_clear_error(saved: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint .*step-9; the newest good one .*step-2$"):
        load_checkpoint(saved / "step-9")


def test_failing_disk_keeps_earlier_checkpoints(saved: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_arrays", fail)
    with pytest.raises(UserError, match="step-3: No space left on device; earlier checkpoints"):
        save_checkpoint(saved, 3, arrays_of(3), STATE, keep=1)
    assert [load_checkpoint(path).step for path in checkpoints(saved)] == [1, 2]


def test_full_device_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot save checkpoint"):
        save_checkpoint(tmp_path / "file", 3, arrays_of(3), STATE, keep=1)


@pytest.mark.parametrize("call", range(1, 12))
def test_a_save_cut_anywhere_leaves_a_good_checkpoint(saved: Path, monkeypatch, call: int) -> None:
    """Stop at the n-th change of the disk, as a kill would."""

    class Killed(BaseException):
        pass

    calls = 0

    def guard(function):
        def guarded(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call:
                raise Killed
            return function(*args, **kwargs)

        return guarded

    for name in ("rename", "replace", "fsync"):
        monkeypatch.setattr(os, name, guard(getattr(os, name)))
    monkeypatch.setattr(checkpoint, "save_arrays", guard(checkpoint.save_arrays))
    with contextlib.suppress(Killed):
        save_checkpoint(saved, 3, arrays_of(3), STATE, keep=1)
    monkeypatch.undo()
    remove_unfinished(saved)
    newest = latest_checkpoint(saved)
    assert newest is not None
    assert load_checkpoint(newest).step in (2, 3)
    assert not list(saved.glob("*.tmp"))


def test_checkpoint_of_another_size_is_described_in_one_line() -> None:
    expected = {f"layer_{i}.w_0": (4, 4) for i in range(5)} | {"head.b_0": (2,)}
    arrays = {f"layer_{i}.w_0": np.zeros((8, 8)) for i in range(5)}
    message = describe_mismatch(expected, arrays)
    assert message is not None
    assert "layer_0.w_0 is [8, 8] there and [4, 4] here" in message
    assert message.count("is [8, 8] there") == 3
    assert "and 3 more differ; use the model section of the config.yaml" in message
    assert "\n" not in message


def test_missing_parameter_is_named() -> None:
    message = describe_mismatch({"a": (1,), "b": (1,)}, {"a": np.zeros(1)})
    assert message is not None
    assert "b is missing there" in message


def test_extra_arrays_are_no_mismatch() -> None:
    assert describe_mismatch({"a": (2,)}, {"a": np.zeros(2), "a_moment1_0": np.zeros(2)}) is None
