"""A stop on two machines, both here: all end together, with one code, and no save is cut short."""

from __future__ import annotations

import logging
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import LIMIT, wait_for
from tests.test_launcher import STEPS
from tests.test_meeting import HOSTS, Pair, aside, ends_of, meet, nobody, pair, port, training
from unimo_paddle import launcher, meeting
from unimo_paddle.checkpoint import latest_checkpoint
from unimo_paddle.launcher import Job, launch
from unimo_paddle.meeting import Meeting
from unimo_paddle.messages import Begin, End, Stop
from unimo_paddle.process import STOPPED_CODE

__all__ = ["aside", "pair", "port"]  # fixtures

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="finds processes by /proc, interfaces by Linux"
)

KILLED_CODE = 128 + signal.SIGTERM
# As in training: a vote ends all after one update. ``ready-N`` says that a rank can be told.
VOTE = """
    def stop(*_):
        (here / "vote").touch()
    signal.signal(signal.SIGTERM, stop)
    (here / f"ready-{rank}").touch()
    while not (here / "vote").exists():
        time.sleep(0.02)
"""


def are_ready(path: Path) -> None:
    for rank in range(2):
        wait_for(path.parent / f"ready-{rank}")


@pytest.mark.parametrize("told", [0, 1])
def test_a_save_that_fails_is_the_end_of_all_machines(pair: Pair, script, told) -> None:
    body = f"""{VOTE}
    if rank == 0:
        time.sleep(1)
        print("error: the disk is full"); raise SystemExit(2)
    os._exit({STOPPED_CODE})
    """
    path = script(body)
    processes = pair(path)
    are_ready(path)
    processes[told].terminate()
    codes, outputs = ends_of(processes)
    assert codes == [KILLED_CODE] * 2, outputs
    assert all("rank 0 ended with exit code 2 instead of saving" in text for text in outputs)
    assert all("the disk is full" in text for text in outputs)


def test_a_rank_that_fails_elsewhere_does_not_cut_the_save_short(pair: Pair, script) -> None:
    body = f"""{VOTE}
    if rank == 0:
        time.sleep(1)
        (here / "saved").touch()
        os._exit({STOPPED_CODE})
    raise SystemExit(7)
    """
    path = script(body)
    processes = pair(path)
    are_ready(path)
    processes[0].terminate()
    codes, outputs = ends_of(processes)
    assert codes == [KILLED_CODE] * 2 and (path.parent / "saved").exists(), outputs
    assert "on localhost: rank 1 ended with exit code 7" in outputs[0]


def test_a_launcher_that_is_killed_does_not_cut_the_save_short(pair: Pair, script) -> None:
    body = f"""{VOTE}
    if rank == 0:
        time.sleep(2)
        (here / "saved").touch()
    os._exit({STOPPED_CODE})
    """
    path = script(body)
    processes = pair(path)
    are_ready(path)
    processes[0].terminate()
    wait_for(path.parent / "vote")
    time.sleep(0.3)
    processes[1].kill()
    codes, outputs = ends_of(processes)
    assert codes == [STOPPED_CODE, -signal.SIGKILL], outputs
    assert (path.parent / "saved").exists()


@pytest.mark.parametrize("seconds", [0.0, 1.0])  # that it takes to end, told or not
def test_a_machine_that_is_done_can_be_told_to_stop(pair: Pair, script, seconds) -> None:
    body = f"""
    if rank == 0:
        def stop(*_):
            (here / "saved").touch()
            os._exit({STOPPED_CODE})
        signal.signal(signal.SIGTERM, stop)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (here / f"ready-{{rank}}").touch()
    time.sleep({seconds} if rank else 600)
    """
    path = script(body)
    processes = pair(path)
    are_ready(path)
    time.sleep(0.4 * (seconds == 0))
    processes[1].terminate()
    codes, outputs = ends_of(processes)
    assert codes == [STOPPED_CODE] * 2 and (path.parent / "saved").exists(), outputs


def test_who_cannot_vote_yet_keeps_nobody_waiting(pair: Pair, script) -> None:
    body = f"""
    if rank == 0:
        signal.signal(signal.SIGTERM, lambda *_: os._exit({STOPPED_CODE}))
    (here / f"ready-{{rank}}").touch()
    time.sleep(600)
    """
    path = script(body)
    start = time.monotonic()
    processes = pair(path)
    are_ready(path)
    processes[1].terminate()
    codes, outputs = ends_of(processes)
    assert codes == [KILLED_CODE] * 2 and time.monotonic() - start < 30, outputs
    cause = "rank 1 was killed by signal 15 (SIGTERM) instead of saving"
    assert all(cause in text for text in outputs)


# ---- without the other machine's processes


@pytest.fixture
def met(port: int, aside) -> Iterator[list[Meeting]]:
    """Both machines' meetings, at the beginning of an attempt."""
    with ExitStack() as stack:
        machines = [stack.enter_context(meet(port, index, seconds=5.0)) for index in range(2)]
        outcomes = [aside(machine) for machine in machines]
        assert all(isinstance(outcome.result(), Begin) for outcome in outcomes)
        yield machines


def heard(machine: Meeting, seconds: float = 3.0) -> End | None:
    """The end that a machine hears of within some time."""
    limit = time.monotonic() + seconds
    while (end := machine.poll()) is None and time.monotonic() < limit:
        time.sleep(0.01)
    return end


SAVED = End(STOPPED_CODE, is_partial=True)
FAILED = End(KILLED_CODE, "rank 1 broke", is_partial=True)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([End(0, is_partial=True), SAVED], STOPPED_CODE),
        ([SAVED, SAVED], STOPPED_CODE),
        ([SAVED, FAILED], KILLED_CODE),
    ],
)
def test_the_last_word_is_the_worst_of_all(met, ends, code) -> None:
    met[1].ask_to_stop(Stop(signal.SIGTERM))
    met[1].tell(ends[1])
    assert heard(met[0], 0.2) is None
    met[0].tell(ends[0])
    words = [heard(machine) for machine in met]
    cause = f"on localhost: {ends[1].cause}" if ends[1].cause else ""
    assert words == [End(code, cause)] * 2


def test_a_stop_reaches_all_and_is_sharpened(met) -> None:
    met[1].ask_to_stop(Stop(signal.SIGINT))
    assert heard(met[0], 0.2) is None and met[0].stop == Stop(signal.SIGINT)
    met[0].ask_to_stop(Stop(signal.SIGTERM, is_for_all=True))
    assert heard(met[1], 0.2) is None and met[1].stop == Stop(signal.SIGINT, is_for_all=True)


@pytest.mark.parametrize("is_stopping", [True, False])
def test_a_lost_launcher_fails_a_job_unless_it_stops(met, is_stopping) -> None:
    if is_stopping:
        met[0].ask_to_stop(Stop(signal.SIGTERM))
    met[1].__exit__()
    if is_stopping:
        assert heard(met[0], 0.2) is None
        met[0].tell(SAVED)
        assert heard(met[0]) == End(STOPPED_CODE)
    else:
        gone = "the launcher on localhost is gone"
        assert heard(met[0]) == End(1, gone, is_final=False)


def test_the_first_launcher_lost_in_a_stop_fails_nobody(met) -> None:
    met[1].ask_to_stop(Stop(signal.SIGTERM))
    met[0].__exit__()
    assert heard(met[1], 0.2) is None and met[1].is_cut_off


def test_a_machine_that_is_done_may_go(met) -> None:
    met[1].tell(End(0, is_partial=True))
    assert heard(met[0], 0.2) is None
    met[1].__exit__()
    assert heard(met[0], 0.2) is None
    met[0].tell(End(0, is_partial=True))
    assert heard(met[0]) == End(0)


def test_a_failure_elsewhere_waits_for_the_end_of_a_stop(met) -> None:
    met[0].ask_to_stop(Stop(signal.SIGTERM))
    met[1].tell(End(1, "rank 1 broke", is_final=False))  # it has not heard of the stop
    assert heard(met[0], 0.2) is None
    assert met[0].stop.is_for_all  # nobody waits for the vote of who is gone
    met[0].tell(SAVED)
    assert heard(met[0]) == End(KILLED_CODE, "on localhost: rank 1 broke")


def test_a_stop_ends_a_job_that_would_begin_anew(met, aside) -> None:
    outcome = aside(met[0], 1)
    met[1].ask_to_stop(Stop(signal.SIGTERM))
    met[1].tell(SAVED)
    end = End(KILLED_CODE, "told to stop before all began anew")
    assert outcome.result() == end
    assert heard(met[1]).code == KILLED_CODE


def test_a_failure_right_behind_the_beginning_is_heard(port, aside, monkeypatch) -> None:
    monkeypatch.setattr(meeting, "POLL_SECONDS", 0.5)  # so that both come to one poll
    with meet(port, 0, seconds=5.0) as first, meet(port, 1, seconds=5.0) as second:
        outcome = aside(second)
        assert isinstance(first.begin(0, [7], nobody), Begin)
        first.tell(End(1, "it broke", is_final=False))
        assert isinstance(outcome.result(), Begin)
        assert heard(second) == End(1, "on 127.0.0.1: it broke", is_final=False)


@pytest.fixture
def launch_here(port: int, script, tmp_path, monkeypatch, aside) -> Callable[..., int]:
    """Launch one machine's part of a job that is told to stop at once: (index, other's) -> code.

    The other machine's part is played by a function of its meeting.
    """
    monkeypatch.setattr(launcher, "WORD_SECONDS", 0.3)

    def run(index: int, play: Callable[[Meeting], None]) -> int:
        path = script(f"os._exit({STOPPED_CODE})")
        with meet(port, 1 - index, job=[1, str(path)], seconds=10.0) as other:
            outcome = aside(other)
            player = threading.Thread(target=lambda: (outcome.result(), play(other)))
            player.start()
            job = Job(
                [str(path)],
                1,
                tmp_path / "log",
                stop_seconds=0.5,
                hosts=HOSTS.split(","),
                host_index=index,
                port=port,
            )
            try:
                return launch(job)
            finally:
                player.join()

    return run


def until_asked(machine: Meeting) -> None:
    """Poll until the other machine has told of its stop."""
    limit = time.monotonic() + LIMIT
    while machine.stop is None:
        assert machine.poll() is None and time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize("code", [STOPPED_CODE, KILLED_CODE])
def test_the_first_machine_has_the_last_word(launch_here, code) -> None:
    def play(machine: Meeting) -> None:
        until_asked(machine)
        time.sleep(0.5)
        machine.tell(End(code))

    assert launch_here(1, play) == code


def test_a_last_word_that_does_not_come_is_told(launch_here, caplog) -> None:
    assert launch_here(1, until_asked) == KILLED_CODE
    assert "the launcher on 127.0.0.1 has not said in time how the job ended; whether it" in (
        caplog.text
    )


def test_a_last_word_that_cannot_come_is_told(launch_here, caplog) -> None:
    def play(machine: Meeting) -> None:
        until_asked(machine)
        machine.__exit__()

    assert launch_here(1, play) == KILLED_CODE
    assert "the launcher on 127.0.0.1 is gone; whether it saved a checkpoint" in caplog.text


def test_a_silent_machine_does_not_undo_a_save(launch_here, caplog) -> None:
    caplog.set_level(logging.WARNING)
    assert launch_here(0, until_asked) == STOPPED_CODE
    assert "localhost: not known how its processes ended" in caplog.text


# ---- training


@pytest.mark.slow
@pytest.mark.parametrize("told", [[0], [1], [0, 1]])
def test_training_on_two_machines_saves_when_told_to_stop(
    pair: Pair, write_run_file, tmp_path: Path, told: list[int]
) -> None:
    processes = pair(*training(write_run_file, tmp_path))
    wait_for(tmp_path / "run" / "checkpoints" / "step-3", 240)
    for index in told:
        processes[index].terminate()
    codes, outputs = ends_of(processes, 240)
    assert codes == [STOPPED_CODE] * 2, outputs
    stopped = int(re.search(r"stopped after step (\d+)", outputs[0])[1])
    newest = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest.name == f"step-{stopped}" and 3 <= stopped < STEPS
