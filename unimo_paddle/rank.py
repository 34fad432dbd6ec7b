"""The processes of a job on one machine: what they are told, how they go on and how they end.

Nothing here knows Paddle but by the variables that it reads.
"""

from __future__ import annotations

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
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from unimo_paddle import environment_defaults
from unimo_paddle.process import PROGRESS_VARIABLE, RESTARTS_VARIABLE, die_with_parent

TAIL_LINES = 20  # of the log of a process that failed, shown on the console
DRAIN_SECONDS = 5.0  # for what a process printed before it ended
_PIECE = 65536  # bytes of output passed on at once


@dataclass
class Rank:
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

    @property
    def is_stopped(self) -> bool:
        """Whether the system has stopped it; asked of Linux alone."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
            return stat.rpartition(")")[2].split()[0] == "T"
        except (OSError, IndexError):
            return False

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
            self.writer.join(DRAIN_SECONDS)
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"


@contextmanager
def running(
    command: Sequence[str],
    numbers: range,
    endpoints: Sequence[str],
    *,
    attempt: int,
    log_dir: Path,
    interface: str | None,
) -> Iterator[list[Rank]]:
    """This machine's processes, started; leaving ends them.

    Args:
        command: a Python script and its arguments.
        numbers: of these processes in the job.
        endpoints: ``host:port`` of every process of the job.
        attempt: how often the job was started before.
        log_dir: gets a log of each; a restart goes on in it.
        interface: by which this machine reaches the others, where there are any.
    """
    # Without what this package set for the launcher alone: each rank takes its share of the cores.
    inherited = {k: v for k, v in os.environ.items() if k not in environment_defaults}
    if interface is not None:
        # Gloo looks up the machine's own name, which many systems resolve to themselves alone.
        inherited.setdefault("GLOO_SOCKET_IFNAME", interface)
    ranks: list[Rank] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unimo-progress-")))
        stack.callback(_kill, ranks)
        for number in numbers:
            is_shown = number == numbers[0]
            log_path, progress = log_dir / f"rank-{number}.log", folder / str(number)
            # Without a buffer: nothing is left that a full disk could refuse when it is closed.
            log = stack.enter_context(log_path.open("ab" if attempt else "wb", buffering=0))
            if attempt:
                log.write(f"--- restart {attempt} ---\n".encode())
                log.flush()
            variables = rank_environment(number, endpoints, num_local=len(numbers))
            variables |= {PROGRESS_VARIABLE: str(progress), RESTARTS_VARIABLE: str(attempt)}
            process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_shown else log,
                stderr=subprocess.STDOUT,
                env=inherited | variables,
                start_new_session=True,  # the terminal's signals are for the launcher
                preexec_fn=die_with_parent,
            )
            rank = Rank(number, process, log_path, progress)
            ranks.append(rank)
            if is_shown:
                rank.writer = threading.Thread(
                    target=_pass_on, args=(process.stdout, log), daemon=True
                )
                rank.writer.start()
                stack.callback(rank.writer.join, DRAIN_SECONDS)
        # Last on the stack, so first: the pipe must end before its thread is waited for.
        stack.callback(_kill, ranks)
        yield ranks


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


def send_signal(ranks: Sequence[Rank], number: int) -> None:
    """Send a signal to those that still run."""
    for rank in ranks:
        if rank.code is None:
            rank.process.send_signal(number)


def _pass_on(pipe: IO[bytes], log: IO[bytes]) -> None:
    """Write what the first process writes to its log and to the console.

    Where one of them takes nothing any more (a console that was closed, a full disk), the other
    goes on: the process would wait for ever for somebody to read what it writes.
    """
    takers = [log, sys.stdout.buffer]
    while piece := os.read(pipe.fileno(), _PIECE):
        for taker in list(takers):
            try:
                taker.write(piece)
                taker.flush()
            except (OSError, ValueError):  # a file that is closed is a ValueError
                takers.remove(taker)


def _kill(ranks: Sequence[Rank]) -> None:
    """End what still runs; it waits for the others and cannot be asked."""
    send_signal(ranks, signal.SIGKILL)
    for rank in ranks:
        rank.process.wait()
