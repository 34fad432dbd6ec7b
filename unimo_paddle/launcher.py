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
from dataclasses import dataclass, replace
from pathlib import Path

from unimo_paddle.errors import USER_ERROR_CODE, UserError
from unimo_paddle.meeting import POLL_SECONDS, Meeting
from unimo_paddle.messages import Begin, End, Stop
from unimo_paddle.process import STOPPED_CODE
from unimo_paddle.rank import DRAIN_SECONDS, Rank, free_ports, running, send_signal

logger = logging.getLogger(__name__)

LOCALHOST = "127.0.0.1"
WORD_SECONDS = 2 * DRAIN_SECONDS  # by which other machines may be late, at the end of a stop
UNKNOWN = "whether it saved a checkpoint is not known"


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
class _Stopping:
    """Whether this machine's processes are to stop, why, and since when."""

    signal: int | None = None
    since: float = 0.0
    is_asked_here: bool = False  # by a signal to this launcher
    is_urgent: bool = False  # which has come twice
    is_due: bool = False  # the processes must be told
    is_told: bool = False  # they were

    def request(self, number: int, _frame: object) -> None:
        """Of a signal; the second one does not wait."""
        self.is_urgent = self.is_asked_here
        self.is_asked_here = True
        logger.info(
            "%s: %s",
            signal.Signals(number).name,
            "the job ends at once"
            if self.is_urgent
            else "the job saves a checkpoint and ends; once more ends it at once",
        )
        if self.signal is None:
            self.signal, self.since, self.is_due = number, time.monotonic(), True

    def follow(self, number: int) -> None:
        """Of what processes or another machine were told; a vote ends all after one update."""
        if self.signal is None:
            logger.info("the processes were told to stop, and save a checkpoint")
            self.signal, self.since = number, time.monotonic()

    def is_late(self, seconds: float, since: float = 0.0) -> bool:
        """Whether it has taken longer, counted from a later moment where one is given."""
        waited = time.monotonic() - max(self.since, since)
        return self.signal is not None and (self.is_urgent or waited > seconds)

    def fail(self, cause: str, *, is_partial: bool = False) -> End:
        """The end of a stop without a checkpoint, as far as is known."""
        return End(128 + self.signal, cause, is_partial=is_partial)


def launch(job: Job) -> int:
    """Run a job to its end, through as many restarts as it may take; return its exit code."""
    try:
        job.log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--log_dir {job.log_dir} cannot be made: {error.strerror}; choose another folder"
        ) from None
    about = [job.num_processes, *job.command]
    seconds = job.join_seconds
    with (
        _listening() as stopping,
        Meeting(job.hosts, job.host_index, job.port, join_seconds=seconds, job=about) as meeting,
    ):
        attempt = 0
        while True:
            ports = free_ports(job.num_processes)
            begin = meeting.begin(attempt, ports, lambda: stopping.signal)
            if isinstance(begin, End):
                if begin.cause:
                    logger.error("%s", begin.cause)
                return begin.code
            end = _run_once(job, begin, stopping, meeting)
            if end.cause:
                logger.error("%s", end.cause)
            if end.is_final:
                return end.code
            attempt = begin.attempt + 1
            if attempt > job.num_restarts or stopping.signal is not None:
                code = end.code if stopping.signal is None else 128 + stopping.signal
                # Who is in a stop waits for a last word, and others would wait for this machine.
                meeting.tell(replace(end, code=code, is_final=True))
                return code
            logger.info("restart %d of %d", attempt, job.num_restarts)


@contextmanager
def _listening() -> Iterator[_Stopping]:
    """Take SIGTERM and SIGINT as requests to stop."""
    stopping = _Stopping()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stopping.request) for number in numbers]
    try:
        yield stopping
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _run_once(job: Job, begin: Begin, stopping: _Stopping, meeting: Meeting) -> End:
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
        end, is_heard = _watch(job, ranks, stopping, meeting)
    if is_heard:
        return end
    _share(stopping, meeting)  # a signal may have come since; the wish goes before what comes of it
    meeting.tell(end)
    return _last_word(job, end, stopping, meeting) if end.is_partial else end


def _watch(
    job: Job, ranks: Sequence[Rank], stopping: _Stopping, meeting: Meeting
) -> tuple[End, bool]:
    """Wait for the end of this machine's processes; return it, and whether others told it."""
    while True:
        codes = [rank.code for rank in ranks]
        if STOPPED_CODE in codes:
            stopping.follow(signal.SIGTERM)  # rank 0 may still be saving
        _share(stopping, meeting)
        if all(code == 0 for code in codes):
            return End(0, is_partial=True), False
        failed = [rank for rank, code in zip(ranks, codes, strict=True) if code not in (None, 0)]
        if stopping.signal is not None:
            if None not in codes:
                return _end_of_stop(job, ranks, stopping), False
            if stopping.is_due and not stopping.is_told:
                stopping.is_told = True
                send_signal(ranks, signal.SIGTERM)
            if stopping.is_late(job.stop_seconds):
                return stopping.fail("the job did not end in time and was killed"), False
        elif failed:
            return _end_of_failure(failed), False
        heard = meeting.poll()
        if heard is not None:
            return heard, True
        hung = _hung(job, ranks)
        if hung and stopping.signal is None:
            return End(1, hung, is_final=False), False
        time.sleep(POLL_SECONDS)


def _share(stopping: _Stopping, meeting: Meeting, *, is_for_all: bool = False) -> None:
    """Tell the other machines of a stop, and take theirs."""
    if stopping.signal is not None:
        meeting.ask_to_stop(Stop(stopping.signal, is_for_all))
    if meeting.stop is not None:
        stopping.follow(meeting.stop.signal)
        stopping.is_due |= meeting.stop.is_for_all


def _end_of_stop(job: Job, ranks: Sequence[Rank], stopping: _Stopping) -> End:
    others = [rank for rank in ranks if rank.code not in (0, STOPPED_CODE)]
    if not others:
        return End(max(rank.code for rank in ranks), is_partial=True)
    cause = f"{others[0].describe()} instead of saving; its last words:\n{others[0].tail()}"
    # The first machine's ranks write the checkpoint: behind them there is nothing to wait for.
    return stopping.fail(cause, is_partial=job.host_index > 0)


def _last_word(job: Job, end: End, stopping: _Stopping, meeting: Meeting) -> End:
    """How the job ended on all machines, where the processes of this one have ended.

    A stop has its time for all of it, and a little more: the first machine's for what the others
    say, and the others' for what it says then.
    """
    patience = job.stop_seconds + WORD_SECONDS * (2 if job.host_index else 1)
    ended = time.monotonic() if job.host_index else 0.0
    while (heard := meeting.poll()) is None:
        # Of a wish that came too late here, nobody elsewhere knows by a vote.
        _share(stopping, meeting, is_for_all=stopping.is_due and end.code == 0)
        if stopping.is_urgent:
            end = stopping.fail("told twice to stop, before all machines had ended")
            meeting.tell(end)
            return end
        if stopping.signal is not None and meeting.is_cut_off:
            return stopping.fail(f"the launcher on {meeting.missing} is gone; {UNKNOWN}")
        if stopping.is_late(patience, ended) and job.host_index:
            return stopping.fail(
                f"the launcher on {meeting.missing} has not said in time how the job ended; "
                f"{UNKNOWN}"
            )
        if stopping.is_late(patience):
            logger.warning("%s: not known how its processes ended", meeting.missing)
            return meeting.conclude()
        time.sleep(POLL_SECONDS)
    return heard


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
