"""One process a peer, driven by the parent one command at a time, so that only one computes.

A process of its own is needed because the variable that tells default from tuned Paddle is read
when Paddle is imported, and because torch and Paddle bring different OpenMP libraries.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import pickle
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from typing import Any, BinaryIO

from unimo_paddle.benchmarks.cases import BenchmarkError
from unimo_paddle.benchmarks.peers import Peer
from unimo_paddle.benchmarks.resident import peak_growth
from unimo_paddle.errors import UserError

_ROUND_SECONDS = 0.1  # a shorter computation is repeated until a round takes this long
_QUICK_ANSWER = 30  # seconds in which a worker that was told to end must have ended


class Worker:
    """The parent's side of one process.

    Attributes:
        versions: of what the peer depends on, known once it is ready.
        absence: why the peer cannot take part, None if it can.
    """

    def __init__(self, peer: Peer, *, threads: int, environment: dict[str, str] | None = None):
        self.peer = peer
        self.versions: dict[str, str] = {}
        self.absence: str | None = None
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "unimo_paddle.benchmarks.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env=os.environ | variables | (environment or {}),
        )
        self._send((peer.factory, peer.environment))

    def wait_until_ready(self) -> None:
        """Wait for the imports; afterwards `versions` and `absence` are known."""
        self.versions, self.absence = self._receive()

    def prepare(self, case: Any) -> None:
        """Make the inputs of a case, run it once, and find how often a round must repeat it.

        Args:
            case: whatever has ``make_inputs()`` and ``smallest()``.
        """
        self._call("prepare", case)

    def results(self) -> Any:
        """Return what the form computes of the prepared case."""
        return self._call("results")

    def measure(self) -> tuple[float, Any]:
        """Run the prepared case; return seconds a run, and what the last run returned."""
        return self._call("measure")

    def growth(self, case: Any) -> tuple[int, str]:
        """Run a case once; return by how many bytes memory grew at most, and how it was read."""
        return self._call("growth", case)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait(_QUICK_ANSWER)
        for stream in (self._process.stdin, self._process.stdout):
            # What was not sent before the process died cannot be flushed either.
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._messages.close()

    def ask(self, command: str, *arguments: object) -> None:
        """Give a command without waiting, so that several workers work at once."""
        self._send((command, arguments))

    def answer(self) -> Any:
        """Wait for what the command of ``ask`` gives."""
        return self._receive()

    def _call(self, command: str, *arguments: object) -> Any:
        self.ask(command, *arguments)
        return self.answer()

    def _send(self, message: object) -> None:
        try:
            _write(self._process.stdin, message)
        except BrokenPipeError:
            self._report_death()

    def _receive(self) -> Any:
        try:
            outcome, value = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            self._report_death()
        if outcome == "refused":
            raise BenchmarkError(f"the worker of '{self.peer.name}': {value}")
        if outcome == "error":
            raise BenchmarkError(f"the worker of '{self.peer.name}' failed:\n{value}")
        return value

    def _report_death(self) -> None:
        code = self._process.wait(_QUICK_ANSWER)
        cause = " (killed, perhaps for want of memory)" if code == -9 else ""
        self._messages.seek(0)
        last = self._messages.read()[-2000:].decode(errors="replace").strip()
        raise BenchmarkError(
            f"the worker of '{self.peer.name}' ended with code {code}{cause}; its last words:\n"
            f"{last or '(none)'}"
        )


@contextlib.contextmanager
def running(
    peers: list[Peer], *, threads: int, environment: dict[str, str] | None = None
) -> Iterator[list[Worker]]:
    """Start a worker for each peer, all at once, and end them all whatever happens."""
    with contextlib.ExitStack() as stack:
        workers = []
        for peer in peers:
            worker = Worker(peer, threads=threads, environment=environment)
            stack.callback(worker.close)
            workers.append(worker)
        for worker in workers:
            worker.wait_until_ready()
        yield workers


class _Session:
    """The child's side: one form at a time."""

    def __init__(self, factory: type) -> None:
        self._factory = factory
        self._form: Any = None
        self._repeats = 1

    def prepare(self, case: Any) -> None:
        """The first run warms up; the second tells how long one takes."""
        self._form = None  # the inputs of the case before go first
        self._form = self._factory(case.make_inputs())
        self._form.run()
        self._repeats = 1
        seconds, _ = self.measure()
        # Forms that wait for each other must repeat equally often, whatever each has measured.
        if not getattr(self._factory, "works_with_others", False):
            self._repeats = max(1, math.ceil(_ROUND_SECONDS / seconds))

    def results(self) -> Any:
        """What the form computes."""
        return self._form.results()

    def measure(self) -> tuple[float, Any]:
        """Seconds of one run, the mean over the repeats of a round."""
        start = time.perf_counter()
        for _ in range(self._repeats):
            value = self._form.run()
        return (time.perf_counter() - start) / self._repeats, value

    def growth(self, case: Any) -> tuple[int, str]:
        """The growth of memory; a tiny case goes first, for what is loaded only when used."""
        self._factory(case.smallest().make_inputs()).run()
        return peak_growth(self._factory(case.make_inputs()).run)


def _serve() -> None:
    """Obey commands on standard input until it ends."""
    commands = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not end up between the answers
    factory_name, environment = pickle.load(commands)
    for name, value in environment.items():
        # Here, and not by the parent: importing this package sets variables that are absent.
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        module, _, attribute = factory_name.partition(":")
        factory = getattr(importlib.import_module(module), attribute)
        absence = factory.absent() if hasattr(factory, "absent") else None
        _write(answers, ("ready", (factory.versions(), absence)))
        session = _Session(factory)
        while True:
            command, arguments = pickle.load(commands)
            _write(answers, ("done", getattr(session, command)(*arguments)))
    except EOFError:
        return
    except UserError as error:
        _write(answers, ("refused", str(error)))
    except Exception:
        _write(answers, ("error", traceback.format_exc()))


def _write(stream: BinaryIO, message: object) -> None:
    pickle.dump(message, stream, protocol=pickle.HIGHEST_PROTOCOL)
    stream.flush()


if __name__ == "__main__":
    _serve()
