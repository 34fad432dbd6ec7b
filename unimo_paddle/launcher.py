"""The processes of a job, on one machine or several: started, watched, and started again.

Paddle's launcher ends a job whose process died, and leaves it there; it waits for ever for one that
hangs, and writes the environment to disk. Here a job goes on from its last checkpoint, with the
cause on the console. Each of several machines has its launcher; they act together (``meeting``).
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from unimo_paddle.errors import USER_ERROR_CODE, UserError
from unimo_paddle.meeting import POLL_SECONDS, Begin, End, Meeting
from unimo_paddle.process import STOPPED_CODE
from unimo_paddle.rank import Rank, free_ports, running, send_signal

logger = logging.getLogger(__name__)

LOCALHOST = "127.0.0.1"


@dataclass(frozen=True)
class Job:
    """What is started.

    Args:
        command: a Python script and its arguments; started again by the same line.
        num_processes: on each machine.
        log_dir: of a log for each process.
        num_restarts: how often the job may be started again.
        hang_seconds: without progress of a process that has begun to make some; 0: no limit.
        stop_seconds: that processes have to end after they were told to.
        hosts: names or IPv4 addresses of all machines, the same on each of them.
        host_index: of this machine among them.
        port: on the first machine, where its launcher listens to the others.
        join_seconds: that all machines have to come, at first and after every failure.
    """

    command: Sequence[str]
    num_processes: int
    log_dir: Path
    num_restarts: int = 3
    hang_seconds: float = 600.0
    stop_seconds: float = 60.0
    hosts: Sequence[str] = (LOCALHOST,)
    host_index: int = 0
    port: int = 6170
    join_seconds: float = 300.0

    def __post_init__(self) -> None:
        lows = {"num_processes": 1, "num_restarts": 0, "hang_seconds": 0, "stop_seconds": 0}
        for name, low in (lows | {"host_index": 0, "port": 1, "join_seconds": 0}).items():
            if not getattr(self, name) >= low:
                raise UserError(f"--{name} is {getattr(self, name)}; give at least {low}")
        for host in self.hosts:
            if not host or ":" in host:
                raise UserError(
                    f"--hosts names {host!r}; give names or IPv4 addresses with commas between "
                    "them, and the port by --port"
                )
        if self.host_index >= len(self.hosts):
            raise UserError(
                f"--host_index is {self.host_index} but --hosts names {len(self.hosts)}; count "
                "from 0"
            )
        if self.port > 65535:
            raise UserError(f"--port is {self.port}; give at most 65535")
        if not self.command:
            raise UserError("no script to launch; name it with its arguments, behind the options")
        if not Path(self.command[0]).is_file():
            raise UserError(f"{self.command[0]} is no file; name the script to launch")


@dataclass
class _Stop:
    """Whether the job was told to stop, and since when."""

    signal: int | None = None
    since: float = field(default=0.0)
    is_passed_on: bool = False  # the processes know

    def request(self, number: int, _frame: object) -> None:
        """Of a signal; the second one does not wait."""
        if self.signal is None:
            logger.info(
                "%s: the job saves a checkpoint and ends; once more ends it at once",
                signal.Signals(number).name,
            )
            self.signal, self.since = number, time.monotonic()
        else:
            self.since = float("-inf")

    def follow(self) -> None:
        """Of processes that end by what another one was told: all do, after the same update."""
        if self.signal is None:
            logger.info("the processes were told to stop, and save a checkpoint")
            self.signal, self.since = signal.SIGTERM, time.monotonic()
        self.is_passed_on = True


def launch(job: Job) -> int:
    """Run a job to its end, through as many restarts as it may take; return its exit code."""
    job.log_dir.mkdir(parents=True, exist_ok=True)
    about = [job.num_processes, *job.command]
    seconds = job.join_seconds
    with (
        _listening() as stop,
        Meeting(job.hosts, job.host_index, job.port, join_seconds=seconds, job=about) as meeting,
    ):
        attempt = 0
        while True:
            ports = free_ports(job.num_processes)
            begin = meeting.begin(attempt, ports, lambda: stop.signal)
            if isinstance(begin, End):
                logger.error("%s", begin.cause)
                return begin.code
            end = _run_once(job, begin, stop, meeting)
            if end.cause:
                logger.error("%s", end.cause)
            attempt = begin.attempt + 1
            if end.is_final or attempt > job.num_restarts or stop.signal is not None:
                return end.code
            logger.info("restart %d of %d", attempt, job.num_restarts)


@contextmanager
def _listening() -> Iterator[_Stop]:
    """Take SIGTERM and SIGINT as requests to stop."""
    stop = _Stop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stop.request) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _run_once(job: Job, begin: Begin, stop: _Stop, meeting: Meeting) -> End:
    """An attempt: of this machine's processes, then of all machines."""
    first = job.host_index * job.num_processes
    with running(
        job.command,
        range(first, first + job.num_processes),
        begin.endpoints,
        attempt=begin.attempt,
        log_dir=job.log_dir,
        interface=meeting.interface,
    ) as ranks:
        end, is_heard = _watch(job, ranks, stop, meeting)
    if is_heard:
        return end
    meeting.tell(end)
    while end.code == 0:
        heard = meeting.poll()
        if heard is not None:
            return heard
        if stop.signal is not None:
            return End(128 + stop.signal, "told to stop while other machines had not ended")
        time.sleep(POLL_SECONDS)
    return end


def _watch(job: Job, ranks: Sequence[Rank], stop: _Stop, meeting: Meeting) -> tuple[End, bool]:
    """Wait for the end of this machine's processes; return it, and whether others told it."""
    while True:
        codes = [rank.code for rank in ranks]
        if all(code == 0 for code in codes):
            return End(0), False
        failed = [rank for rank in ranks if rank.code not in (None, 0)]
        if stop.signal is not None:
            if all(code is not None for code in codes):
                return _end_of_stop(ranks, stop), False
            if not stop.is_passed_on:
                stop.is_passed_on = True
                send_signal(ranks, signal.SIGTERM)
            if time.monotonic() - stop.since > job.stop_seconds:
                return End(128 + stop.signal, "the job did not end in time and was killed"), False
        elif any(code == STOPPED_CODE for code in codes):
            stop.follow()  # rank 0 may still be saving
        elif failed:
            return _end_of_failure(failed), False
        heard = meeting.poll()
        if heard is not None and heard.code == STOPPED_CODE:
            stop.follow()
        elif heard is not None:
            return heard, True
        hung = _hung(job, ranks)
        if hung and stop.signal is None:
            return End(1, hung, is_final=False), False
        time.sleep(POLL_SECONDS)


def _end_of_stop(ranks: Sequence[Rank], stop: _Stop) -> End:
    others = [rank for rank in ranks if rank.code not in (0, STOPPED_CODE)]
    if others:
        cause = f"{others[0].describe()} instead of saving; its last words:\n{others[0].tail()}"
        return End(128 + stop.signal, cause)
    return End(max(rank.code for rank in ranks))


def _end_of_failure(failed: Sequence[Rank]) -> End:
    # Who is killed takes others down, and they may be noticed in the same moment.
    # A user's mistake on one is the others' broken connection.
    first = min(
        failed,
        key=lambda rank: (
            rank.code != -signal.SIGKILL,
            rank.code != USER_ERROR_CODE,
            rank.code >= 0,
        ),
    )
    if first.code == USER_ERROR_CODE:  # it would only be made again
        return End(USER_ERROR_CODE, first.tail().strip())
    cause = f"{first.describe()}; the last lines of {first.log}:\n{first.tail()}"
    return End(1, cause, is_final=False)


def _hung(job: Job, ranks: Sequence[Rank]) -> str:
    """Which process makes no progress; empty where all do."""
    stale = [rank for rank in ranks if rank.stale_seconds() > job.hang_seconds > 0]
    if not stale:
        return ""
    # One that is stopped keeps all others waiting, who may be noticed first.
    stopped = [rank for rank in ranks if rank.is_stopped]
    chosen = (stopped or stale)[0]
    how = "is stopped" if stopped else "waits or computes without end"
    return (
        f"rank {chosen.number} {how}: no progress for {chosen.stale_seconds():.0f} seconds; the "
        f"last lines of {chosen.log}:\n{chosen.tail()}"
    )
