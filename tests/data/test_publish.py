"""What several processes make at once: whole or not there, or made by one of them only."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from unimo_paddle.data.publish import name_unfinished, publish, sole_writer, write_whole
from unimo_paddle.data.scenes import SceneConfig, dataset, ensure_scenes
from unimo_paddle.errors import UserError


def write_slowly(folder: Path) -> None:
    folder.mkdir()
    (folder / "first").write_text("1")
    assert not (folder.parent / "made").exists()  # nobody sees the first without the second
    (folder / "second").write_text("2")


def test_a_folder_appears_with_all_that_is_in_it(tmp_path: Path) -> None:
    publish(tmp_path / "deep" / "made", write_slowly)
    assert sorted(path.name for path in (tmp_path / "deep" / "made").iterdir()) == [
        "first",
        "second",
    ]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["made"]


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("mine")
    publish(tmp_path / "made", lambda path: pytest.fail("written again"))
    assert (tmp_path / "made").read_text() == "mine"


def test_a_text_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "deep" / "made.jsonl"
    write_whole(path, "first")

    def fail(source: Path, target: Path) -> None:
        assert source.read_text() == "second" and path.read_text() == "first"
        raise OSError("no space left")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space left"):
        patched.setattr(os, "replace", fail)
        write_whole(path, "second")
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]
    write_whole(path, "third")
    assert path.read_text() == "third" and list(path.parent.iterdir()) == [path]


def test_a_link_is_written_to_and_stays_one(tmp_path: Path) -> None:
    """``/dev/stdout`` is one."""
    (tmp_path / "link").symlink_to(tmp_path / "made")
    write_whole(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "made").read_text() == "text"


def test_the_second_of_two_discards_its_folder(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_slowly(folder)
        other = tmp_path / "made"
        other.mkdir()
        (other / "theirs").touch()

    publish(tmp_path / "made", write)
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "theirs"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_slowly(folder)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        publish(tmp_path / "made", write)
    assert not list(tmp_path.iterdir())


# ---- several machines and one folder


def test_a_process_of_the_same_number_on_another_machine_is_not_disturbed(tmp_path: Path) -> None:
    made = []

    def write(unfinished: Path) -> None:
        made.append(unfinished)
        unfinished.write_text("1")
        if len(made) == 1:
            publish(tmp_path / "made", write)  # what the other machine does meanwhile
            assert unfinished.exists() and not made[1].exists()

    publish(tmp_path / "made", write)
    assert made[0] != made[1]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_scenes_are_made_twice_at_once_by_processes_of_the_same_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SceneConfig(0, 32, 2, 1, 1, 1, 1)
    write_all, made = dataset._write_all, []

    def write(folder: Path, config: SceneConfig) -> dict:
        made.append(folder)
        if len(made) == 1:
            manifest = write_all(folder, config)
            ensure_scenes(tmp_path / "scenes", config)
            assert (folder / "scenes.json").is_file()
            return manifest
        return write_all(folder, config)

    monkeypatch.setattr(dataset, "_write_all", write)
    ensure_scenes(tmp_path / "scenes", config)
    assert len(made) == 2 and [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_an_unfinished_name_tells_its_host_and_ends_like_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "rank0.cluster/1")
    name = name_unfinished(tmp_path / "rows.npy").name
    assert name.startswith(f".unfinished-rank0_cluster_1-{os.getpid()}-")
    assert name.endswith(".rows.npy")


@pytest.mark.parametrize(("hours", "is_kept"), [(23, True), (25, False)])
@pytest.mark.parametrize("is_folder", [True, False])
def test_what_a_killed_process_left_is_removed_after_a_day(
    tmp_path: Path, hours: int, *, is_kept: bool, is_folder: bool
) -> None:
    others = [name_unfinished(tmp_path / "made"), name_unfinished(tmp_path / "it.made")]
    for other in others:
        if is_folder:
            other.mkdir()
            (other / "part").touch()
        else:
            other.touch()
        os.utime(other, (time.time() - 3600 * hours,) * 2)
    publish(tmp_path / "made", lambda path: path.touch())
    assert others[0].exists() == is_kept
    assert others[1].exists()  # of another path


# ---- one writer


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    lock, output = tmp_path / "deep/.lock", tmp_path / "made"
    with sole_writer(lock, output):
        for _ in range(2):  # being refused takes nothing away from the first
            refused = pytest.raises(UserError, match=r"another process is making .*made now.*wait")
            with refused, sole_writer(lock, output):
                pytest.fail("two at once")
        assert lock.is_file()
    assert not lock.exists()
    with sole_writer(lock, output):
        pass


def test_a_failure_lets_the_lock_go(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space left"), sole_writer(tmp_path / "lock", tmp_path):
        raise OSError("no space left")
    assert not (tmp_path / "lock").exists()


def test_a_killed_writer_blocks_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    ready, begun = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with sole_writer(lock, tmp_path):
                os.write(begun, b"1")
                signal.pause()
        finally:
            os._exit(0)
    os.read(ready, 1)
    with pytest.raises(UserError, match="another process"), sole_writer(lock, tmp_path):
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert lock.exists()  # nobody could take it away
    with sole_writer(lock, tmp_path):
        pass
    assert not lock.exists()


def test_a_lock_that_its_holder_has_just_taken_away_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls, flock = tmp_path / "lock", [], fcntl.flock

    def taken_away_before(file, operation: int) -> None:
        if not calls:
            lock.unlink()
        calls.append(operation)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", taken_away_before)
    with sole_writer(lock, tmp_path):
        assert lock.exists() and len(calls) == 2


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without(file, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with sole_writer(tmp_path / "lock", tmp_path / "made"):
        pass
    assert "cannot be locked (No locks available): nothing keeps a second" in caplog.text


def test_a_place_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = pytest.raises(UserError, match=r"file cannot be written to: .*; choose another outp")
    with refused, sole_writer(tmp_path / "file/lock", tmp_path / "file"):
        pass
