"""Promises 1 to 3: a save is all or nothing, a failing disk costs nothing old, damage is seen.

Nothing here is simulated: processes are killed, disks are full, bytes are flipped. The files of a
checkpoint are found by listing it, whatever their names are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.checkpoint import (
    checkpoints,
    latest_checkpoint,
    load_checkpoint,
    remove_unfinished,
    save_checkpoint,
)
from unimo_paddle.errors import USER_ERROR_CODE, UserError

ROOT = Path(__file__).resolve().parents[2]
NUM_KILLS_SHORT, NUM_KILLS = 10, 200
KEEP = 2
SAVES_BEFORE_KILL = 2

# Saves in a loop, each checkpoint full of the number of its step, and says what it does.
SAVE_FOR_EVER = """
import itertools, sys, time
from pathlib import Path
import numpy as np
from unimo_paddle.checkpoint import latest_checkpoint, remove_unfinished, save_checkpoint

folder = Path(sys.argv[1])
remove_unfinished(folder)
newest = latest_checkpoint(folder)
start = int(newest.name.split("-")[1]) + 1 if newest else 0
for step in itertools.count(start):
    arrays = {f"array {i}": np.full(20_000, step, "float32") for i in range(16)}
    print("saving", step, flush=True)
    begin = time.perf_counter()
    save_checkpoint(folder, step, arrays, {"of": step}, keep=2)
    print("saved", step, time.perf_counter() - begin, flush=True)
"""


# ---- 1: kills


def kinds(folder: Path) -> set[str]:
    """What lies in a folder, numbers apart."""
    return {re.sub(r"\d+", "N", path.name) for path in folder.iterdir()}


@pytest.fixture
def clean(tmp_path: Path) -> set[str]:
    """What lies in a folder of checkpoints that nothing disturbed."""
    folder = tmp_path / "clean"
    for step in range(KEEP + 1):
        save_checkpoint(folder, step, {"a": np.zeros(1, "float32")}, {}, keep=KEEP)
    return kinds(folder)


def kill_in_a_save(folder: Path, share: float, seconds: float) -> tuple[int, float]:
    """Kill a saving process at a share of a save's length.

    Returns:
        The step that it last reported as saved, and how long its saves took.
    """
    command = [sys.executable, "-c", SAVE_FOR_EVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        saved, durations = -1, []
        for line in process.stdout:
            what, step, *duration = line.split()
            if what == "saved":
                saved, durations = int(step), [*durations, float(duration[0])]
            elif len(durations) == SAVES_BEFORE_KILL:
                break
        time.sleep(share * (seconds or min(durations)))
        process.kill()
        rest = process.stdout.read()
    reported = [int(step) for step in re.findall(r"^saved (\d+) ", rest, re.M)]
    return max([saved, *reported]), min(durations)


def check_kills(folder: Path, clean: set[str], num_kills: int) -> None:
    """Kill saves at shares of their length from 0 to a little beyond, in one folder."""
    seconds, num_interrupted = 0.0, 0
    for number in range(num_kills):
        saved, seconds = kill_in_a_save(folder, 1.1 * number / num_kills, seconds)
        newest = latest_checkpoint(folder)
        assert newest is not None
        loaded = load_checkpoint(newest)
        assert loaded.step >= saved and loaded.state == {"of": loaded.step}
        assert all((array == loaded.step).all() for array in loaded.arrays.values())
        assert len(loaded.arrays) == 16
        for path in checkpoints(folder):
            load_checkpoint(path)
        num_interrupted += bool(kinds(folder) - clean)
        remove_unfinished(folder)
        assert kinds(folder) <= clean
        assert latest_checkpoint(folder) == newest
    # Otherwise the kills missed the saves, and this test proves nothing.
    assert num_interrupted >= num_kills / 4, f"{num_interrupted} of {num_kills}"


def test_kills_within_a_save_leave_a_checkpoint_no_older(tmp_path: Path, clean: set[str]) -> None:
    check_kills(tmp_path / "killed", clean, NUM_KILLS_SHORT)


@pytest.mark.slow
def test_two_hundred_kills_leave_a_checkpoint_no_older(tmp_path: Path, clean: set[str]) -> None:
    check_kills(tmp_path / "killed", clean, NUM_KILLS)


# ---- 2: disks


def run_on_small_disk(code: str, folder: Path, *, size: str) -> subprocess.CompletedProcess:
    """Run Python code, whose first argument is a folder on a disk of its own of that size."""
    if not shutil.which("unshare"):
        pytest.skip("unshare is not here, so no disk can be made without privileges")
    folder.mkdir()
    script = 'mount -t tmpfs -o size="$2" none "$1" && exec "$3" -c "$4" "$1"'
    shell = ["unshare", "-rm", "sh", "-c"]
    if subprocess.run(
        [*shell, script, "sh", folder, size, "true", ""], capture_output=True
    ).returncode:
        pytest.skip("this system lets nobody mount a disk without privileges")
    return subprocess.run(
        [*shell, script, "sh", folder, size, sys.executable, code], capture_output=True, text=True
    )


HELPERS = """
import subprocess, sys
from pathlib import Path
import numpy as np
from unimo_paddle.checkpoint import (
    checkpoints, load_checkpoint, remove_unfinished, save_checkpoint)
from unimo_paddle.errors import UserError

folder = Path(sys.argv[1])

def save(step):
    array = np.full(25_000, step, "float32")
    return save_checkpoint(folder / "own", step, {"array": array}, {}, keep=99)

def refused(step):
    try:
        save(step)
    except UserError as error:
        message = str(error)
        assert f"cannot save checkpoint {folder / 'own' / f'step-{step}'}: " in message, message
        assert message.isprintable() and "earlier checkpoints are kept" in message, message
        return message
    return ""

def whole():
    steps = []
    for path in checkpoints(folder / "own"):
        loaded = load_checkpoint(path)
        assert (loaded.arrays["array"] == loaded.step).all()
        steps.append(loaded.step)
    return steps
"""
FILL = (
    HELPERS
    + """
step = 0
while not (message := refused(step)):
    step += 1
assert "No space left on device" in message, message
assert step > 3 and whole() == list(range(step))
remove_unfinished(folder / "own")
assert not list((folder / "own").glob("*.tmp"))
assert refused(step) and whole() == list(range(step))
# What the message advises: free space, then go on.
subprocess.run(["rm", "-r", folder / "own" / "step-0"], check=True)
save(step)
assert whole() == list(range(1, step + 1))
"""
)
READ_ONLY = (
    HELPERS
    + """
save(0)
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
assert "Read-only file system" in refused(1)
assert whole() == [0]
"""
)


@pytest.mark.parametrize(
    ("code", "size"), [(FILL, "1m"), (READ_ONLY, "1m")], ids=["full", "read-only"]
)
def test_a_disk_that_takes_no_more_costs_nothing_old(tmp_path: Path, code: str, size: str) -> None:
    done = run_on_small_disk(code, tmp_path / "disk", size=size)
    assert done.returncode == 0, done.stderr


def test_a_write_that_fails_halfway_costs_nothing_old(tmp_path: Path) -> None:
    """The system refuses to let a file grow: a real error in the middle of writing one."""
    code = HELPERS + (
        "import resource\n"
        "save(0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))\n"
        "assert 'File too large' in refused(1), refused(1)\n"
        "assert whole() == [0]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "save(2)\n"
        "assert whole() == [0, 2] and not list((folder / 'own').glob('*.tmp'))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("is_parent", [False, True])
def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path: Path, is_parent: bool) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "checkpoints" if is_parent else tmp_path / "file"
    with pytest.raises(
        UserError, match=r"cannot save checkpoint .*step-1: (Not a dir|File exists)"
    ):
        save_checkpoint(folder, 1, {"a": np.zeros(1)}, {}, keep=1)


# Trains until the disk is full; then, if asked, makes room and goes on to the end.
TRAIN = """
import os, shutil, subprocess, sys
from pathlib import Path
from unimo_paddle.checkpoint import checkpoints, load_checkpoint

folder = Path(sys.argv[1]) / "run"

def train(*arguments):
    command = [sys.executable, os.environ["TRAIN"], "--config", os.environ["RUN_FILE"],
               "--output_dir", folder, "--train.checkpoint_interval", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    return done.returncode

code = train("--train.keep_checkpoints", "99")
steps = [load_checkpoint(path).step for path in checkpoints(folder / "checkpoints")]
assert steps and steps == list(range(1, len(steps) + 1)), steps
if os.environ.get("GOES_ON"):
    for path in checkpoints(folder / "checkpoints")[:-1]:
        shutil.rmtree(path)
    assert train("--resume", "--train.keep_checkpoints", "1") == 0
    last, = checkpoints(folder / "checkpoints")
    assert load_checkpoint(last).step == 60 and not list(last.parent.glob("*.tmp"))
sys.exit(code)
"""


@pytest.mark.parametrize(
    "goes_on", ["", pytest.param("yes", marks=pytest.mark.slow)], ids=["ends", "and goes on"]
)
def test_training_on_a_full_disk_ends_with_one_line(
    write_run_file, tmp_path: Path, monkeypatch, goes_on: str
) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", {"evaluation.splits": []})
    monkeypatch.setenv("RUN_FILE", str(run_file))
    monkeypatch.setenv("TRAIN", str(ROOT / "tools" / "train.py"))
    monkeypatch.setenv("GOES_ON", goes_on)
    done = run_on_small_disk(TRAIN, tmp_path / "disk", size="2m")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == USER_ERROR_CODE and len(errors) == 1, done.stderr
    assert "No space left on device" in errors[0] and "Traceback" not in done.stderr
    assert re.search(r"cannot save checkpoint .*step-\d+: .*; free space or choose", errors[0])


# The disk is full before the first update, or somebody else fills it during the run.
NO_ROOM = """
import os, subprocess, sys
fill = "while [ ! -e $0/run/checkpoints/latest ]; do sleep 0.1; done; cat /dev/zero > $0/fill"
filler = subprocess.Popen(["sh", "-c", fill, sys.argv[1]], stderr=subprocess.DEVNULL)
command = [sys.executable, os.environ["TRAIN"], "--config", os.environ["RUN_FILE"],
           "--output_dir", sys.argv[1] + "/run", "--train.max_steps", "10000"]
code = subprocess.run(command).returncode
filler.kill()
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", ["4k", "40k", "900k"])
def test_training_finds_no_room_for_assets_logs_or_checkpoints(
    write_run_file, tmp_path: Path, monkeypatch, size: str
) -> None:
    changes = {"evaluation.splits": [], "train.checkpoint_interval": 40}
    run_file = write_run_file(tmp_path / "run.yaml", changes)
    monkeypatch.setenv("RUN_FILE", str(run_file))
    monkeypatch.setenv("TRAIN", str(ROOT / "tools" / "train.py"))
    done = run_on_small_disk(NO_ROOM, tmp_path / "disk", size=size)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == USER_ERROR_CODE and len(errors) == 1, done.stderr
    assert "No space left on device" in errors[0] and "; free space" in errors[0]
    assert "Traceback" not in done.stderr


# ---- 3: damage


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with two small checkpoints."""
    arrays = {"a": np.arange(12, dtype="float32"), "b": np.array([[True]])}
    for step in (1, 2):
        save_checkpoint(tmp_path / "own", step, arrays, {"seed": 3}, keep=KEEP)
    return tmp_path / "own"


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def unseen_damage(saved: Path, file: Path, data: bytes | None) -> str | None:
    """Put other data into a file; say what is wrong with how that is told, if anything is."""
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    try:
        load_checkpoint(latest_checkpoint(saved))
    except UserError as error:
        message = str(error)
        is_told = str(file) in message and f"the newest good one is {saved / 'step-1'}" in message
        return None if is_told and message.isprintable() else message
    return "it was loaded"


def check_flips(saved: Path, masks: Sequence[int]) -> None:
    """Flip these bits of every byte of every file, one byte at a time."""
    for file in files_of(saved / "step-2"):
        original = file.read_bytes()
        for position in range(len(original)):
            for mask in masks:
                flipped = bytearray(original)
                flipped[position] ^= mask
                wrong = unseen_damage(saved, file, bytes(flipped))
                assert wrong is None, f"{file.name}, byte {position}, bits {mask:08b}: {wrong}"
        file.write_bytes(original)
    assert load_checkpoint(saved / "step-2").step == 2


def test_a_flipped_byte_anywhere_is_seen(saved: Path) -> None:
    check_flips(saved, (0x01, 0x20))  # a digit becomes another, a letter a capital


@pytest.mark.slow
def test_every_other_value_of_every_byte_is_seen(saved: Path) -> None:
    check_flips(saved, range(1, 256))


def test_cut_zeroed_longer_and_missing_files_are_seen(saved: Path) -> None:
    for file in files_of(saved / "step-2"):
        original = file.read_bytes()
        size = len(original)
        cuts = [original[:length] for length in {0, 1, size // 2, size - 1}]
        for data in (*cuts, bytes(size), original + b"\0", original + original, None):
            wrong = unseen_damage(saved, file, data)
            assert wrong is None, f"{file.name}: {wrong}"
            file.write_bytes(original)
    assert load_checkpoint(saved / "step-2").step == 2
