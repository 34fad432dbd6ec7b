"""The launchers of a job's machines: they begin every attempt together, and hear how it ends.

Why they must: where one machine began anew alone, its ranks would meet the store of ranks that are
about to end, and what those wrote into it. So the first machine's launcher listens, the others call
it, and no rank starts before the ranks of all machines have ended. Ports of the ranks are chosen
anew for every attempt, so that nothing of the attempt before answers there. Nobody proves who he
is: the network must be trusted, as for the ranks' own connections.

A failure ends the attempt everywhere at once. Ranks that end by themselves, at their work's end or
by a stop, leave the others to go on: their launcher tells a partial end and waits. The first
machine, whose rank 0 saves, sums up and has the last word, with which all end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from unimo_paddle.errors import USER_ERROR_CODE, UserError
from unimo_paddle.messages import Begin, End, Line, Stop

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
_CALL_SECONDS = 2.0  # for one try to reach the first machine
_BACKLOG = 1024  # calls of all machines may come in one moment
_SIOCGIFADDR = 0x8915  # Linux: the address of an interface


class Meeting:
    """This machine's part in it. With one machine there is nobody to talk to.

    Args:
        hosts: names or addresses of all machines; the first one's is what the others call.
        index: of this machine among them.
        port: that the first machine's launcher listens on.
        join_seconds: that all machines have to come, at first and after every failure.
        job: what must be the same on all machines.
    """

    def __init__(
        self, hosts: Sequence[str], index: int, port: int, *, join_seconds: float, job: object
    ) -> None:
        self._hosts, self._index, self._port = hosts, index, port
        self._join_seconds = join_seconds
        self._job = hashlib.sha256(json.dumps([list(hosts), job]).encode()).hexdigest()
        self._attempt = -1
        self._lines: list[Line] = []
        self._here: dict[int, dict] = {}  # first machine: who waits for the next attempt
        self._ends: dict[int, End] = {}  # first machine: of those who wait for its last word
        self.stop: Stop | None = None  # asked for on any machine
        self.interface: str | None = None  # by which this machine talks with the others
        self._listener = self._listen() if len(hosts) > 1 and index == 0 else None

    def _listen(self) -> socket.socket:
        try:
            # On all interfaces: many systems resolve their own name to one that is theirs alone.
            listener = socket.create_server(("", self._port), backlog=_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UserError(
                    f"--port {self._port} cannot be listened on: {error.strerror}; choose another "
                    "one above 1023, the same on all machines"
                ) from None
            raise UserError(
                f"--port {self._port} is in use on this machine, perhaps by another job or a "
                "second --host_index 0; choose another one, the same on all machines"
            ) from None
        listener.setblocking(False)
        return listener

    def __enter__(self) -> Meeting:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines:
            line.close()
        if self._listener is not None:
            self._listener.close()

    # ---- what the launcher calls

    def begin(
        self, attempt: int, ports: Sequence[int], stop_signal: Callable[[], int | None]
    ) -> Begin | End:
        """Wait until all machines are ready for an attempt, whose ranks have all ended before.

        Args:
            attempt: the number that this machine counts; the highest is what all take.
            ports: for this machine's ranks.
            stop_signal: that asked this launcher to end the job; None or 0: none did.

        Returns:
            What to start; or the end of the job, which another machine has told or a signal asks.

        Raises:
            UserError: not all machines came in time, or they do not run the same line.
        """
        if len(self._hosts) == 1:
            self._attempt, self._ends = attempt, {}
            return Begin(attempt, [f"127.0.0.1:{port}" for port in ports])
        own = {"attempt": attempt, "ports": list(ports), "job": self._job, "index": self._index}
        meet = self._gather if self._index == 0 else self._call
        begun = meet(own, stop_signal)
        if isinstance(begun, Begin):
            self._attempt, self._ends = begun.attempt, {}
            for line in self._lines:
                if line.host is not None or self._index:
                    self.interface = interface_of(line.own_address)
        return begun

    def ask_to_stop(self, stop: Stop) -> None:
        """Let all machines know of a wish to stop; more than once does no harm."""
        if self._take_stop(stop):
            self._say("stop", **asdict(stop))

    def tell(self, end: End) -> None:
        """Tell the other machines how the attempt ended here."""
        if self._index == 0 and end.is_partial:
            self._ends[0] = end
        else:
            self._say_end(end, self._hosts[self._index])

    def poll(self) -> End | None:
        """What ends the attempt on all machines: a failure elsewhere, or the last word."""
        end = self._hear()
        if end is None and self._index == 0 and not self.missing:
            return self.conclude()
        return end

    def conclude(self) -> End:
        """The first machine's last word, told to all: the worst of what was heard."""
        worst = max(self._ends, key=lambda index: self._ends[index].code)
        end = replace(self._ends[worst], is_partial=False)
        self._say_end(end, self._hosts[worst])
        return self._from(self._hosts[worst], end) if worst else end

    @property
    def missing(self) -> str:
        """The machines that the last word waits for; on others than the first, the first."""
        if self._index:
            return self._hosts[0]
        return ", ".join(host for i, host in enumerate(self._hosts) if i not in self._ends)

    @property
    def is_cut_off(self) -> bool:
        """Whether no last word can come."""
        return self._index > 0 and not self._lines

    # ---- both sides

    def _say(self, kind: str, besides: Line | None = None, **content: object) -> None:
        for line in self._lines:
            if line is not besides:
                line.send(kind, **content)

    def _say_end(self, end: End, host: str, besides: Line | None = None) -> None:
        self._say("end", besides, attempt=self._attempt, host=host, **asdict(end))

    def _hear(self, waiting: Callable[[Line, dict], None] | None = None) -> End | None:
        """Take in what was said; return an end that concerns this machine.

        Args:
            waiting: takes messages of other kinds, between attempts.
        """
        self._accept()
        found: list[End] = []
        for line in list(self._lines):
            for message in line.messages():
                kind = message.get("kind")
                if self._index == 0 and line.host is None and kind != "here":
                    line.close()  # a stranger
                elif kind == "stop":
                    stop = Stop(int(message["signal"]), bool(message["is_for_all"]))
                    if self._take_stop(stop) and self._index == 0:
                        self._say("stop", line, **asdict(stop))
                elif kind == "end":
                    found += self._end_of(line, message)
                elif kind == "here" and self._index == 0:
                    if self._take_in(line, message) and waiting is None:
                        # Its failure was told before, unless its launcher was itself replaced.
                        found += self._fail(line, f"the launcher on {self._name(line)} began anew")
                elif waiting is not None:
                    waiting(line, message)
                    break  # what follows is of the attempt that may begin now
            if line.is_over:
                found += self._lose(line, is_running=waiting is None)
        return next((end for end in found if end.is_final), found[0] if found else None)

    def _take_stop(self, stop: Stop) -> bool:
        """Note a wish to stop; return whether it is news."""
        if self.stop is not None and self.stop.is_for_all >= stop.is_for_all:
            return False
        self.stop = stop if self.stop is None else replace(self.stop, is_for_all=True)
        return True

    def _end_of(self, line: Line, message: dict) -> list[End]:
        host = str(message["host"])
        end = End(
            int(message["code"]),
            str(message["cause"]),
            bool(message["is_final"]),
            bool(message["is_partial"]),
        )
        is_over = message["attempt"] != self._attempt
        if is_over and (end.is_partial or not end.is_final or end.code == 0):
            return []
        if end.is_partial or (self.stop is not None and not end.is_final):
            # Nothing that a stop cannot wait for: the first machine may be saving.
            if self._index == 0:
                code = end.code if end.is_final else 128 + self.stop.signal
                self._ends[line.host] = replace(end, code=code, is_final=True)
                if end.cause:
                    self._stop_all()
            return []
        if self._index == 0:
            self._say_end(end, host, besides=line)
        return [self._from(host, end)]

    def _from(self, host: str, end: End) -> End:
        return replace(end, cause=f"on {host}: {end.cause}") if end.cause else end

    def _lose(self, line: Line, *, is_running: bool) -> list[End]:
        self._lines.remove(line)
        if self._index:
            if not is_running or self.stop is not None:
                return []
            return [End(1, f"the launcher on {self._hosts[0]} is gone", is_final=False)]
        if line.host is None or any(other.host == line.host for other in self._lines):
            return []  # a stranger, or replaced
        self._here.pop(line.host, None)
        if not is_running or line.host in self._ends:
            return []
        return self._fail(line, f"the launcher on {self._name(line)} is gone")

    def _fail(self, line: Line, cause: str) -> list[End]:
        """Of the first machine: what comes of a launcher that is lost while the ranks run."""
        if self.stop is not None:
            # The first machine's ranks save, and end whether or not this one's have.
            self._ends.setdefault(line.host, End(0))
            self._stop_all()
            return []
        end = End(1, cause, is_final=False)
        self._say_end(end, self._hosts[0], besides=line)
        return [end]

    def _stop_all(self) -> None:
        """Where ranks failed before they could vote, all others would wait for them in vain."""
        self.ask_to_stop(replace(self.stop, is_for_all=True))

    def _name(self, line: Line) -> str:
        return self._hosts[line.host]

    # ---- the first machine

    def _accept(self) -> None:
        while self._listener is not None:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._lines.append(Line(connection))

    def _take_in(self, line: Line, message: dict) -> bool:
        """Note that a machine is ready; return whether it is one of this job."""
        index = message.get("index")
        cause = ""
        if message.get("job") != self._job:
            cause = (
                "--hosts, --num_processes or the script's arguments differ from those of "
                f"{self._hosts[0]}; run the same line on all machines"
            )
        elif index in self._here and line.host is None:
            cause = f"--host_index {index} has joined already; give each machine its own"
        if cause:
            logger.warning("a launcher was refused: %s", cause)
            line.send("refused", cause=cause)
            line.close()
            return False
        line.host = index
        self._here[index] = message
        return True

    def _gather(self, own: dict, stop_signal: Callable[[], int | None]) -> Begin | End:
        """Wait for all others and tell them to begin."""
        limit = time.monotonic() + self._join_seconds
        told = 0
        while True:
            end = self._hear(waiting=lambda *_: None)
            if end is not None and end.is_final:
                return end
            if self.stop is not None:  # asked for where ranks still ran; the others have failed
                return self._leave(128 + self.stop.signal, "told to stop before all began anew")
            missing = [i for i in range(1, len(self._hosts)) if i not in self._here]
            if not missing:
                break
            names = ", ".join(f"{self._hosts[i]} (--host_index {i})" for i in missing)
            if stop_signal():
                return self._leave(128 + stop_signal(), f"told to stop before {names} had joined")
            if time.monotonic() > limit:
                cause = (
                    f"--join_seconds: after {self._join_seconds:g} seconds these machines have not "
                    f"joined: {names}; run the same line there with that index"
                )
                self._leave(USER_ERROR_CODE, cause)
                raise UserError(cause)
            if told != len(missing):
                told = len(missing)
                logger.info("waiting for %s", names)
            time.sleep(POLL_SECONDS)
        here = {0: own, **self._here}
        self._here = {}
        attempt = max(message["attempt"] for message in here.values())
        endpoints = [
            f"{host}:{port}" for i, host in enumerate(self._hosts) for port in here[i]["ports"]
        ]
        for line in self._lines:
            if line.host is not None:
                line.send("begin", attempt=attempt, endpoints=endpoints)
        return Begin(attempt, endpoints)

    def _leave(self, code: int, cause: str) -> End:
        end = End(code, cause)
        self._say_end(end, self._hosts[self._index])
        return end

    # ---- the others

    def _call(self, own: dict, stop_signal: Callable[[], int | None]) -> Begin | End:
        """Call the first machine until it answers, and wait for its word."""
        limit = time.monotonic() + self._join_seconds
        found: list[dict] = []
        asked: Line | None = None
        while True:
            if not self._lines and (line := self._reach()):
                self._lines = [line]
            if self._lines and self._lines[0] is not asked:
                asked = self._lines[0]
                asked.send("here", **own)
            end = self._hear(waiting=lambda _, message: found.append(message))
            if end is not None and end.is_final:
                return end
            for message in found:
                if message.get("kind") == "refused":
                    raise UserError(str(message["cause"]))
                if message.get("kind") == "begin":
                    return Begin(int(message["attempt"]), list(message["endpoints"]))
            if stop_signal():
                return self._leave(128 + stop_signal(), "told to stop before all had joined")
            if time.monotonic() > limit:
                where = f"{self._hosts[0]}:{self._port}"
                raise UserError(
                    f"--hosts: {where} answers, but not all machines joined within "
                    f"{self._join_seconds:g} seconds (--join_seconds); see what is said there"
                    if self._lines
                    else f"--hosts: nothing answers at {where} for {self._join_seconds:g} seconds "
                    "(--join_seconds); run the same line there with --host_index 0, or open the "
                    "port"
                )
            time.sleep(POLL_SECONDS)

    def _reach(self) -> Line | None:
        address = (self._hosts[0], self._port)
        with contextlib.suppress(OSError):
            return Line(socket.create_connection(address, _CALL_SECONDS))
        return None


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has an IPv4 address; None where none has.

    Linux only: elsewhere it is not asked for.
    """
    try:
        import fcntl

        interfaces = socket.if_nameindex()
    except (ImportError, OSError):
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in interfaces:
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None
