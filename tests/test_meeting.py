"""Launchers of two machines, both here: jobs that end well, die, are stopped and cannot meet."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import LIMIT, wait_for
from tests.test_launcher import ROOT, SETTINGS, ranks_of, weights_of
from unimo_paddle.errors import UserError
from unimo_paddle.meeting import Meeting, interface_of
from unimo_paddle.messages import Begin, End
from unimo_paddle.process import STOPPED_CODE
from unimo_paddle.rank import free_ports

HOSTS = "127.0.0.1,localhost"  # two names, so that messages tell one from the other

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="finds processes by /proc, interfaces by Linux"
)

Pair = Callable[..., list[subprocess.Popen]]


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def pair(launch, port: int) -> Pair:
    """Start both launchers of a job: (*command, **options) -> their processes."""

    def start(*command: object, **options: object) -> list[subprocess.Popen]:
        places = [{"hosts": HOSTS, "host_index": index, "port": port} for index in range(2)]
        return [launch(*command, **place, **options) for place in places]

    return start


def ends_of(processes: list[subprocess.Popen], limit: float = LIMIT) -> tuple[list[int], list[str]]:
    """Exit codes and what was printed."""
    outputs = [process.communicate(timeout=limit)[0] for process in processes]
    return [process.returncode for process in processes], outputs


def test_ranks_are_counted_over_all_machines(pair, script, tmp_path) -> None:
    body = """
        names = ["TRAINER_ID", "LOCAL_RANK", "LOCAL_SIZE", "TRAINERS_NUM", "NNODES"]
        print(*(os.environ[f"PADDLE_{name}"] for name in names))
        print(os.environ["PADDLE_TRAINER_ENDPOINTS"], os.environ["GLOO_SOCKET_IFNAME"])
    """
    codes, _ = ends_of(pair(script(body), num_processes=2))
    logs = [(tmp_path / "log" / f"rank-{i}.log").read_text().splitlines() for i in range(4)]
    assert codes == [0, 0]
    assert [log[0] for log in logs] == ["0 0 2 4 2", "1 1 2 4 2", "2 0 2 4 2", "3 1 2 4 2"]
    assert len({log[1] for log in logs}) == 1  # all know the same endpoints
    endpoints, interface = logs[0][1].split()
    hosts = [endpoint.split(":")[0] for endpoint in endpoints.split(",")]
    assert hosts == ["127.0.0.1", "127.0.0.1", "localhost", "localhost"]
    assert interface == "lo"


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_takes_both_machines_back(pair, script, tmp_path, victim) -> None:
    body = f"""
        if not resumes and rank == {victim}:
            (here / "about").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if not resumes:
            time.sleep(600)
        print("went on")
    """
    codes, outputs = ends_of(pair(script(body)))
    assert codes == [0, 0], outputs
    died = f"rank {victim} was killed by signal 9 (SIGKILL)"
    where = HOSTS.split(",")[victim]
    assert died in outputs[victim] and f"on {where}: {died}" in outputs[1 - victim]
    assert all("restart 1 of 3" in text and "went on" in text for text in outputs)


def test_a_machine_that_is_done_goes_back_with_the_others(pair, script) -> None:
    body = """
        if rank == 1 and not resumes:
            time.sleep(1.5)  # the other machine has nothing left to do
            raise SystemExit(7)
        print("resumes", resumes)
    """
    codes, outputs = ends_of(pair(script(body)))
    assert codes == [0, 0]
    assert "resumes False" in outputs[0] and "resumes True" in outputs[0]


def test_a_mistake_ends_the_job_on_all_machines(pair, script) -> None:
    body = """
        if rank == 1:
            print("error: nothing to read"); raise SystemExit(2)
        time.sleep(600)
    """
    codes, outputs = ends_of(pair(script(body)))
    assert codes == [2, 2]
    assert all("nothing to read" in text and "restart" not in text for text in outputs)


@pytest.mark.parametrize("told", [0, 1])
def test_a_stop_of_one_machine_lets_the_other_save(pair, script, told) -> None:
    # As in training: a vote ends all, and one of them takes its time to write.
    body = f"""
        def stop(*_):
            (here / "vote").touch()
        signal.signal(signal.SIGTERM, stop)
        (here / f"ready-{{rank}}").touch()
        while not (here / "vote").exists():
            time.sleep(0.02)
        if rank == 0:
            time.sleep(1.5)
            (here / "saved").touch()
        os._exit({STOPPED_CODE})
    """
    path = script(body)
    processes = pair(path)
    for rank in range(2):
        wait_for(path.parent / f"ready-{rank}")
    processes[told].terminate()
    codes, outputs = ends_of(processes)
    assert codes == [STOPPED_CODE] * 2 and (path.parent / "saved").exists(), outputs


@pytest.mark.parametrize("lost", [0, 1])
def test_a_machine_that_comes_back_joins_again(pair, launch, script, port, lost) -> None:
    body = """
        if not resumes:
            (here / f"ready-{rank}").touch()
            time.sleep(600)
        print("went on")
    """
    path = script(body)
    processes = pair(path)
    for rank in range(2):
        wait_for(path.parent / f"ready-{rank}")
    processes[lost].kill()
    processes[lost].wait()
    processes[lost] = launch(path, hosts=HOSTS, host_index=lost, port=port)
    codes, outputs = ends_of(processes)
    assert codes == [0, 0], outputs
    assert f"the launcher on {HOSTS.split(',')[lost]}" in outputs[1 - lost]
    assert all("went on" in text for text in outputs)


def test_a_machine_that_stays_away_is_named(launch, script, port) -> None:
    process = launch(script(""), hosts=HOSTS, port=port, join_seconds=1)
    codes, outputs = ends_of([process])
    assert codes == [2]
    assert outputs[0].splitlines()[-1] == (
        "error: --join_seconds: after 1 seconds these machines have not joined: localhost "
        "(--host_index 1); run the same line there with that index"
    )


def test_a_first_machine_that_does_not_answer_is_named(launch, script, port) -> None:
    start = time.monotonic()
    process = launch(script(""), hosts=HOSTS, host_index=1, port=port, join_seconds=1)
    codes, outputs = ends_of([process])
    assert codes == [2] and time.monotonic() - start < 20
    assert outputs[0].splitlines()[-1] == (
        f"error: --hosts: nothing answers at 127.0.0.1:{port} for 1 seconds (--join_seconds); run "
        "the same line there with --host_index 0, or open the port"
    )


# ---- without processes


def meet(
    port: int, index: int, *, job: object = "x", seconds: float = 1.0, hosts: str = HOSTS
) -> Meeting:
    return Meeting(hosts.split(","), index, port, join_seconds=seconds, job=job)


def nobody() -> None:
    """No signal has come."""


def test_a_port_in_use_is_told(port) -> None:
    with (
        socket.create_server(("", port)),
        pytest.raises(UserError, match=f"--port {port} is in use"),
    ):
        meet(port, 0)


def test_a_port_of_the_system_is_told(port, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(UserError, match=rf"--port {port} cannot be listened on: Permission denied"):
        Meeting(["a", "b"], 0, port, join_seconds=1.0, job="job")


@pytest.fixture
def aside() -> Iterator[Callable[..., Future]]:
    """Begin an attempt in a thread of its own: (meeting, attempt) -> what comes of it."""
    with ThreadPoolExecutor() as pool:
        yield lambda meeting, attempt=0: pool.submit(meeting.begin, attempt, [1], nobody)


def test_another_line_is_refused(port, aside) -> None:
    with meet(port, 0) as first, meet(port, 1, job="y") as second:
        outcome = aside(second)
        with pytest.raises(UserError, match="have not joined: localhost"):
            first.begin(0, [1], nobody)
        with pytest.raises(UserError, match="run the same line on all machines"):
            outcome.result()


def test_one_index_cannot_join_twice(port, aside) -> None:
    hosts = "127.0.0.1,localhost,third"
    machines = [meet(port, index, hosts=hosts) for index in (0, 1, 1)]
    outcomes = [aside(machine) for machine in machines]
    ends = [outcome.exception() for outcome in outcomes]
    for machine in machines:
        machine.__exit__()
    assert "third (--host_index 2)" in str(ends[0])
    assert sum("--host_index 1 has joined already" in str(end) for end in ends[1:]) == 1


def test_all_take_the_highest_number_of_attempts(port, aside) -> None:
    with meet(port, 0) as first, meet(port, 1) as second:
        outcome = aside(second, attempt=2)
        begun = first.begin(0, [7], nobody)
        assert begun == outcome.result() == Begin(2, ["127.0.0.1:7", "localhost:1"])


def test_strangers_do_no_harm(port, aside) -> None:
    with meet(port, 0, seconds=3) as first, meet(port, 1, seconds=3) as second:
        strangers = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        strangers[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        strangers[1].sendall(b'{"kind": "end", "code": 0}\n[]\n')
        strangers[2].sendall(b'{"kind": "here"}\n')
        outcome = aside(second)
        assert isinstance(first.begin(0, [7], nobody), Begin)
        outcome.result()
        strangers[3].sendall(b"\xff" * 100 + b"\n")
        second.tell(End(1, "it broke", is_final=False))
        end, limit = None, time.monotonic() + 3
        while end is None and time.monotonic() < limit:
            end = first.poll()
        assert end == End(1, "on localhost: it broke", is_final=False)
        for stranger in strangers:
            stranger.close()


def test_interfaces_are_known_by_their_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.1") is None  # of documents, nobody's


# ---- training


@pytest.mark.slow
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("number", "cause"),
    [(signal.SIGKILL, "was killed by signal 9"), (signal.SIGSTOP, "is stopped: no progress")],
)
def test_training_on_two_machines_survives_a_lost_process_to_the_bit(
    pair, write_run_file, tmp_path, tmp_path_factory, side, number, cause
) -> None:
    expected = _undisturbed(write_run_file, tmp_path_factory)
    command = training(write_run_file, tmp_path)
    processes = pair(*command, hang_seconds=20, log_dir=tmp_path / "log")
    wait_for(tmp_path / "run" / "checkpoints" / "step-3", 240)
    (pid,) = ranks_of(processes[side]).values()
    os.kill(pid, number)
    codes, outputs = ends_of(processes, 300)
    assert codes == [0, 0], outputs
    assert re.search(f"rank {side} {cause}", outputs[side])
    assert "resumed from" in outputs[0] and "restart 1 of 3" in outputs[1]
    assert "restart 2" not in outputs[0] + outputs[1]
    assert weights_of(tmp_path / "run") == expected


def training(write_run_file, folder: Path) -> list[object]:
    run_file = write_run_file(folder / "run.yaml", SETTINGS)
    return ["tools/train.py", "--config", run_file, "--output_dir", folder / "run"]


def _undisturbed(write_run_file, tmp_path_factory) -> dict[str, bytes]:
    """What two processes of one machine learn when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "tools/launch.py", "--num_processes", 2, "--log_dir", folder / "log"]
    command = [*map(str, command), *map(str, training(write_run_file, folder))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return weights_of(folder / "run")
