"""The processes of a job, on one machine or several: started, watched, and started again.

Paddle's launcher ends a job whose process died, and leaves it there; it waits for ever for one that
hangs, and writes the environment to disk. Here a job goes on from its last checkpoint, with the
cause on the console. Each of several machines has its launcher; they act together (``meeting``).
Nothing in this file knows Paddle but by the variables that it reads.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from unimo_paddle import environment_defaults
from unimo_paddle.errors import USER_ERROR_CODE, UserError
from unimo_paddle.meeting import POLL_SECONDS, Begin, End, Meeting
from unimo_paddle.process import PROGRESS_VARIABLE, RESTARTS_VARIABLE, STOPPED_CODE

logger = logging.getLogger(__name__)

TAIL_LINES = 20  # of the log of a process that failed, shown on the console
LOCALHOST = "127.0.0.1"
_DRAIN_SECONDS = 5.0  # for what a process printed before it ended
_PIECE = 65536  # bytes of output passed on at once
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Job:
    """What is started.

    Args:
        command: a Python script and its arguments; ``RESTARTS_VARIABLE`` tells it of restarts.
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
class _Rank:
    """A process of the job."""

    number: int
    process: subprocess.Popen
    log: Path
    progress: Path
    writer: threading.Thread | None = None  # of what it prints into its log

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    def stale_seconds(self) -> float:
        """Since its last progress; 0 before the first."""
        try:
            return time.time() - self.progress.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def describe(self) -> str:
        """How it ended."""
        code = self.process.returncode
        if code >= 0:
            return f"rank {self.number} ended with exit code {code}"
        return f"rank {self.number} was killed by signal {-code} ({signal.Signals(-code).name})"

    def tail(self) -> str:
        """The last lines that it wrote."""
        if self.writer is not None and self.code is not None:
            self.writer.join(_DRAIN_SECONDS)
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"


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
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unimo-progress-")))
        ranks = _start(job, begin, folder, stack, interface=meeting.interface)
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


def _watch(job: Job, ranks: Sequence[_Rank], stop: _Stop, meeting: Meeting) -> tuple[End, bool]:
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
                _signal(ranks, signal.SIGTERM)
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


def _end_of_stop(ranks: Sequence[_Rank], stop: _Stop) -> End:
    others = [rank for rank in ranks if rank.code not in (0, STOPPED_CODE)]
    if others:
        cause = f"{others[0].describe()} instead of saving; its last words:\n{others[0].tail()}"
        return End(128 + stop.signal, cause)
    return End(max(rank.code for rank in ranks))


def _end_of_failure(failed: Sequence[_Rank]) -> End:
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


def _hung(job: Job, ranks: Sequence[_Rank]) -> str:
    """Which process makes no progress; empty where all do."""
    stale = [rank for rank in ranks if rank.stale_seconds() > job.hang_seconds > 0]
    if not stale:
        return ""
    # One that is stopped keeps all others waiting, who may be noticed first.
    stopped = [rank for rank in ranks if _state(rank.process.pid) == "T"]
    chosen = (stopped or stale)[0]
    how = "is stopped" if stopped else "waits or computes without end"
    return (
        f"rank {chosen.number} {how}: no progress for {chosen.stale_seconds():.0f} seconds; the "
        f"last lines of {chosen.log}:\n{chosen.tail()}"
    )


def _state(pid: int) -> str:
    """The letter that Linux gives to what a process is doing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _start(
    job: Job, begin: Begin, folder: Path, stack: ExitStack, *, interface: str | None
) -> list[_Rank]:
    """Start this machine's processes; leaving the stack ends them."""
    attempt = begin.attempt
    # Without what this package set for the launcher alone: each rank takes its share of the cores.
    inherited = {k: v for k, v in os.environ.items() if k not in environment_defaults}
    if interface is not None:
        # Gloo looks up the machine's own name, which many systems resolve to themselves alone.
        inherited.setdefault("GLOO_SOCKET_IFNAME", interface)
    ranks: list[_Rank] = []
    stack.callback(_kill, ranks)
    for local in range(job.num_processes):
        number = job.host_index * job.num_processes + local
        log_path, progress = job.log_dir / f"rank-{number}.log", folder / str(number)
        log = stack.enter_context(log_path.open("ab" if attempt else "wb"))
        if attempt:
            log.write(f"--- restart {attempt} ---\n".encode())
            log.flush()
        variables = rank_environment(number, begin.endpoints, num_local=job.num_processes)
        variables |= {PROGRESS_VARIABLE: str(progress), RESTARTS_VARIABLE: str(attempt)}
        process = subprocess.Popen(
            [sys.executable, *job.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if local == 0 else log,
            stderr=subprocess.STDOUT,
            env=inherited | variables,
            start_new_session=True,  # the terminal's signals are for this process, which passes on
            preexec_fn=_die_with_parent,
        )
        rank = _Rank(number, process, log_path, progress)
        ranks.append(rank)
        if local == 0:
            rank.writer = threading.Thread(target=_pass_on, args=(process.stdout, log), daemon=True)
            rank.writer.start()
            stack.callback(rank.writer.join, _DRAIN_SECONDS)
    # Last on the stack, so first: the pipe must end before its thread is waited for.
    stack.callback(_kill, ranks)
    return ranks


def rank_environment(number: int, endpoints: Sequence[str], *, num_local: int) -> dict[str, str]:
    """What fleet reads.

    Args:
        number: of the process in the job.
        endpoints: ``host:port`` of every process.
        num_local: processes on each machine.
    """
    variables = {
        "PADDLE_MASTER": endpoints[0],
        "PADDLE_GLOBAL_SIZE": len(endpoints),
        "PADDLE_LOCAL_SIZE": num_local,
        "PADDLE_GLOBAL_RANK": number,
        "PADDLE_LOCAL_RANK": number % num_local,
        "PADDLE_RANK_IN_NODE": number % num_local,
        "PADDLE_NNODES": len(endpoints) // num_local,
        "PADDLE_TRAINER_ID": number,
        "PADDLE_TRAINERS_NUM": len(endpoints),
        "PADDLE_CURRENT_ENDPOINT": endpoints[number],
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
    }
    if any(Path("/dev").glob("nvidia[0-9]*")):
        variables["FLAGS_selected_gpus"] = number % num_local
    else:
        variables["PADDLE_DISTRI_BACKEND"] = "gloo"
    return {name: str(value) for name, value in variables.items()}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; held together, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


def _die_with_parent() -> None:
    """In the child: end when the launcher is killed. Linux only; elsewhere nothing happens."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _pass_on(pipe: IO[bytes], log: IO[bytes]) -> None:
    """Write what the first process writes to its log and to the console."""
    console = sys.stdout.buffer
    while piece := os.read(pipe.fileno(), _PIECE):
        log.write(piece)
        log.flush()
        console.write(piece)
        console.flush()


def _signal(ranks: Sequence[_Rank], number: int) -> None:
    for rank in ranks:
        if rank.code is None:
            rank.process.send_signal(number)


def _kill(ranks: Sequence[_Rank]) -> None:
    """End what still runs; it waits for the others and cannot be asked."""
    _signal(ranks, signal.SIGKILL)
    for rank in ranks:
        rank.process.wait()
