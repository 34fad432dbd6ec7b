"""What launchers say to each other: lines of JSON over a connection."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

_SEND_SECONDS = 5.0
_LONGEST_LINE = 1 << 20  # bytes; whoever sends more is no launcher
_PIECE = 65536
# A machine without power says nothing: after so many seconds it is asked, and then given up; so it
# is where it does not take what was sent (milliseconds).
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 50_000}


@dataclass(frozen=True)
class Begin:
    """What all machines agree on before an attempt."""

    attempt: int
    endpoints: list[str]  # host:port of every rank


@dataclass(frozen=True)
class Stop:
    """A wish to end the job with a checkpoint, which holds for all machines."""

    signal: int
    is_for_all: bool = False  # every machine's processes are told; otherwise those told tell them


@dataclass(frozen=True)
class End:
    """How an attempt ended."""

    code: int  # exit code of the job
    cause: str = ""  # empty where all processes ended well
    is_final: bool = True  # starting again would not help, or was not asked for
    is_partial: bool = False  # of one machine; the others go on to theirs, the first sums up


class Line:
    """A connection that carries lines of JSON both ways."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self._untold: deque[dict] = deque()
        self._is_open = True
        self.host: int | None = None  # whose it is, once it has said so
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._own_address: str = connection.getsockname()[0]

    @property
    def own_address(self) -> str:
        """Of this machine, as the other end sees it."""
        return self._own_address

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more, and all that came was told."""
        return not self._is_open and not self._untold

    def send(self, kind: str, **content: object) -> None:
        """Say something; a line that is dead is noticed by whoever listens to it."""
        if not self._is_open:
            return
        try:
            self._socket.settimeout(_SEND_SECONDS)
            self._socket.sendall(json.dumps({"kind": kind, **content}).encode() + b"\n")
        except OSError:
            self._receive()  # the other end may have said why before it hung up
            self.close()

    def messages(self) -> Iterator[dict]:
        """All that has come and was not told yet; what is not taken comes again."""
        self._receive()
        while self._untold:
            yield self._untold.popleft()

    def _receive(self) -> None:
        while self._is_open and len(self._buffer) <= _LONGEST_LINE:
            try:
                self._socket.settimeout(0.0)
                piece = self._socket.recv(_PIECE)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            if not piece:
                self.close()
            self._buffer += piece
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > _LONGEST_LINE:
            self.close()
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict):
                self.close()
                return
            self._untold.append(message)

    def close(self) -> None:
        """Hang up."""
        self._is_open = False
        self._socket.close()
