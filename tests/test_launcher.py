"""Jobs that end well, die, hang and are stopped: with small scripts, then with real training."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import LIMIT, wait_for
from unimo_paddle.checkpoint import latest_checkpoint, load_checkpoint
from unimo_paddle.errors import UserError
from unimo_paddle.launcher import Job
from unimo_paddle.launcher import launch as launch_job
from unimo_paddle.process import STOPPED_CODE

ROOT = Path(__file__).resolve().parents[1]


def test_every_process_knows_its_rank_and_has_a_log(launch, script, tmp_path) -> None:
    body = 'print("rank", rank, "of", os.environ["PADDLE_TRAINERS_NUM"], *sys.argv[1:])'
    output, _ = launch(script(body), "--some", "words", num_processes=3).communicate(timeout=LIMIT)
    assert "rank 0 of 3 --some words" in output and "rank 1" not in output
    logs = [(tmp_path / "log" / f"rank-{i}.log").read_text() for i in range(3)]
    assert logs == [f"rank {i} of 3 --some words\n" for i in range(3)]


@pytest.mark.parametrize("given", [None, "1"])
def test_threads_are_the_ranks_own_or_the_users(launch, script, monkeypatch, given) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    process = launch(script('print("threads", os.environ.get("OMP_NUM_THREADS"))'))
    output, _ = process.communicate(timeout=LIMIT)
    assert f"threads {given}" in output


def test_a_killed_process_ends_the_job_which_goes_on_from_where_it_was(launch, script) -> None:
    body = """
        if rank == 1 and not resumes:
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if not resumes:
            time.sleep(600)
        print("went on")
    """
    start = time.monotonic()
    process = launch(script(body), num_processes=2)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0 and time.monotonic() - start < 30
    assert "rank 1 was killed by signal 9 (SIGKILL)" in output and "about to die" in output
    assert "restart 1 of 3" in output and output.rstrip().endswith("went on")


def test_a_script_is_started_again_by_the_same_line(launch, script, tmp_path) -> None:
    body = 'print(os.environ["UNIMO_RESTARTS"], *sys.argv[1:]); raise SystemExit(7)'
    launch(script(body), "--run", "x", num_restarts=1).communicate(timeout=LIMIT)
    log = (tmp_path / "log" / "rank-0.log").read_text()
    assert log.splitlines() == ["0 --run x", "--- restart 1 ---", "1 --run x"]


def test_a_console_that_is_gone_stops_no_process(launch, script, tmp_path) -> None:
    """As where ``head`` has read enough: what is not read would fill the pipe."""
    process = launch(script('print("x" * 300_000); print("end")'))
    process.stdout.close()
    process.wait(LIMIT)
    assert (tmp_path / "log" / "rank-0.log").read_text().endswith("x\nend\n")


def test_restarts_come_to_an_end(launch, script, tmp_path) -> None:
    process = launch(script("raise SystemExit(7)"), num_restarts=2)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert output.count("rank 0 ended with exit code 7") == 3
    log = (tmp_path / "log" / "rank-0.log").read_text()
    assert re.findall(r"--- restart (\d) ---", log) == ["1", "2"]


def test_a_users_mistake_is_not_repeated(launch, script) -> None:
    body = 'print("error: model.num_heads 5 does not divide it"); raise SystemExit(2)'
    process = launch(script(body), num_processes=2)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 2 and "restart" not in output
    assert "model.num_heads 5 does not divide it" in output


def test_a_process_that_stands_still_is_noticed(launch, script) -> None:
    body = """
        progress.touch()
        if rank == 1 and not resumes:
            os.kill(os.getpid(), signal.SIGSTOP)
        for _ in range(4 if resumes else 6000):
            time.sleep(0.1)
            if resumes or rank == 1:
                progress.touch()
    """
    start = time.monotonic()
    process = launch(script(body), num_processes=2, hang_seconds=2)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0 and time.monotonic() - start < 30
    assert "rank 1 is stopped: no progress for" in output


def test_a_start_without_progress_is_no_hang(launch, script) -> None:
    process = launch(script("time.sleep(1.5); progress.touch()"), hang_seconds=1)
    assert process.wait(LIMIT) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_waited_for(launch, script, number) -> None:
    body = f"""
        def stop(*_):
            time.sleep(0.5)
            print("saved", flush=True)
            os._exit({STOPPED_CODE})
        signal.signal(signal.SIGTERM, stop)
        (here / f"ready-{{rank}}").touch()
        time.sleep(600)
    """
    path = script(body)
    process = launch(path, num_processes=2)
    for rank in range(2):
        wait_for(path.parent / f"ready-{rank}")
    process.send_signal(number)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == STOPPED_CODE and "saved" in output


def test_a_rank_that_ends_by_a_vote_leaves_the_others_time_to_save(launch, script) -> None:
    body = f"""
        if rank == 0:
            time.sleep(1.5)
            (here / "saved").touch()
        os._exit({STOPPED_CODE})
    """
    path = script(body)
    process = launch(path, num_processes=2)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == STOPPED_CODE and (path.parent / "saved").exists(), output


def test_a_first_signal_behind_a_vote_is_no_second_one(launch, script) -> None:
    body = f"""
        if rank == 0:
            (here / "voted").touch()
            time.sleep(1.5)
            print("saved", flush=True)
        os._exit({STOPPED_CODE})
    """
    path = script(body)
    process = launch(path, num_processes=2)
    wait_for(path.parent / "voted")
    time.sleep(0.5)  # by now the launcher has noticed how rank 1 ended
    process.terminate()
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == STOPPED_CODE and "saved" in output, output


def test_who_does_not_stop_in_time_is_killed(launch, script) -> None:
    body = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (here / "ready").touch()
        time.sleep(600)
    """
    path = script(body)
    process = launch(path, stop_seconds=1)
    wait_for(path.parent / "ready")
    process.terminate()
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + signal.SIGTERM and "did not end in time" in output


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for it")
def test_no_process_outlives_a_launcher_that_is_killed(launch, script) -> None:
    path = script('(here / "pid").write_text(str(os.getpid())); time.sleep(600)')
    process = launch(path)
    wait_for(path.parent / "pid")
    time.sleep(0.2)
    pid = int((path.parent / "pid").read_text())
    process.kill()
    end = time.monotonic() + LIMIT
    while Path(f"/proc/{pid}").exists():
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":  # ended; nobody has asked how
            break
        assert time.monotonic() < end, "the child lives on"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": []}, "no script to launch"),
        ({"command": ["nowhere.py"]}, "nowhere.py is no file"),
        ({"num_processes": 0}, "--num_processes is 0; give at least 1"),
        ({"num_restarts": -1}, "--num_restarts is -1"),
        ({"hang_seconds": float("nan")}, "--hang_seconds is nan"),
        ({"hosts": ["a", "b:6170"]}, "--hosts names 'b:6170'; give names or IPv4 addresses"),
        ({"hosts": ["a", ""]}, "--hosts names ''"),
        ({"hosts": ["a", "b"], "host_index": 2}, "--host_index is 2 but --hosts names 2"),
        ({"host_index": -1}, "--host_index is -1"),
        ({"port": 70000}, "--port is 70000; give at most 65535"),
    ],
)
def test_a_job_that_cannot_be_is_refused(changes, message, tmp_path) -> None:
    arguments = {"command": [__file__], "num_processes": 1, "log_dir": tmp_path}
    with pytest.raises(UserError, match=message):
        Job(**arguments | changes)


def test_a_folder_of_logs_that_cannot_be_made_is_refused(tmp_path) -> None:
    (tmp_path / "log").write_text("a file")
    with pytest.raises(UserError, match=r"--log_dir .*log cannot be made: .*; choose another"):
        launch_job(Job([__file__], 1, tmp_path / "log"))


# ---- training

STEPS = 12
SETTINGS = {
    "train.max_steps": STEPS,
    "train.checkpoint_interval": 3,
    "train.log_interval": 1,
    "evaluation.splits": [],
    "evaluation.max_loss_batches": 0,
}


@pytest.fixture
def training(write_run_file, tmp_path: Path) -> list[object]:
    """The command of a small run of two processes in ``tmp_path / "run"``."""
    run_file = write_run_file(tmp_path / "run.yaml", SETTINGS)
    return ["tools/train.py", "--config", run_file, "--output_dir", tmp_path / "run"]


def weights_of(folder: Path) -> dict[str, bytes]:
    path = latest_checkpoint(folder / "checkpoints")
    checkpoint = load_checkpoint(path)
    assert checkpoint.step == STEPS
    return {name: value.tobytes() for name, value in checkpoint.arrays.items()}


@pytest.fixture(scope="module")
def undisturbed(write_run_file, tmp_path_factory) -> dict[str, bytes]:
    """What the run learns when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_file = write_run_file(folder / "run.yaml", SETTINGS)
    command = [sys.executable, "tools/launch.py", "--num_processes", "2"]
    command += ["--log_dir", str(folder / "log"), "tools/train.py", "--config", str(run_file)]
    command += ["--output_dir", str(folder / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return weights_of(folder / "run")


def ranks_of(process: subprocess.Popen) -> dict[int, int]:
    """The pids of a job's processes by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = {}
    for pid in map(int, children):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        numbers = [x for x in variables if x.startswith(b"PADDLE_TRAINER_ID=")]
        if numbers:
            found[int(numbers[0].partition(b"=")[2])] = pid
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes by /proc")
@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGKILL, r"rank 1 was killed by signal 9"),
        pytest.param(signal.SIGSTOP, r"rank 1 is stopped: no progress", marks=pytest.mark.slow),
    ],
)
def test_training_survives_a_lost_process_to_the_bit(
    launch, training, undisturbed, tmp_path, number, cause
) -> None:
    process = launch(*training, num_processes=2, hang_seconds=15)
    wait_for(tmp_path / "run" / "checkpoints" / "step-3", 240)
    os.kill(ranks_of(process)[1], number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert re.search(cause, output) and "resumed from" in output
    assert weights_of(tmp_path / "run") == undisturbed


@pytest.mark.slow
def test_training_that_is_told_to_stop_saves_and_resumes_to_the_bit(
    launch, training, undisturbed, tmp_path
) -> None:
    process = launch(*training, num_processes=2)
    wait_for(tmp_path / "run" / "checkpoints" / "step-3", 240)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == STOPPED_CODE, output
    stopped = int(re.search(r"stopped after step (\d+)", output)[1])
    newest = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest.name == f"step-{stopped}" and 3 <= stopped < STEPS
    again = launch(*training, "--resume", num_processes=2)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert weights_of(tmp_path / "run") == undisturbed
