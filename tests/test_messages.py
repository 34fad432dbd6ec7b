"""Lines of JSON between launchers: nothing that came is lost, and nothing harms."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from unimo_paddle.messages import Line


@pytest.fixture
def ends() -> Iterator[tuple[Line, socket.socket]]:
    """A line, and the bare socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
    line = Line(connection)
    with other:
        yield line, other
    line.close()


def listen(line: Line, count: int) -> list[dict]:
    found: list[dict] = []
    limit = time.monotonic() + 5
    while len(found) < count and time.monotonic() < limit:
        found += line.messages()
        time.sleep(0.01)
    return found


def test_what_is_not_taken_comes_again(ends) -> None:
    line, other = ends
    other.sendall(b'{"kind": "begin"}\n{"kind": "end"}\n')
    time.sleep(0.1)
    assert next(iter(line.messages())) == {"kind": "begin"}
    other.close()
    time.sleep(0.1)
    line.send("here")
    assert not line.is_over
    assert list(line.messages()) == [{"kind": "end"}] and line.is_over


@pytest.mark.parametrize("linger", [struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)])
def test_what_came_before_the_end_outlives_a_send_that_fails(ends, linger) -> None:
    line, other = ends
    other.sendall(b'{"kind": "end"}\n')
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # with and without a reset
    other.close()
    for _ in range(3):
        time.sleep(0.05)
        line.send("stop")
    assert list(line.messages()) == [{"kind": "end"}] and line.is_over


def test_a_message_in_pieces_is_one(ends) -> None:
    line, other = ends
    text = json.dumps({"kind": "here", "words": "x" * 300_000}).encode() + b"\n"
    other.sendall(text[:7])
    assert list(line.messages()) == []
    other.sendall(text[7:])
    assert len(listen(line, 1)[0]["words"]) == 300_000


@pytest.mark.parametrize("text", [b"[" * 100_000 + b"\n", b"\xff\n", b"[]\n", b"x" * (1 << 21)])
def test_what_is_no_message_ends_the_line(ends, text) -> None:
    line, other = ends
    other.settimeout(0.5)
    limit = time.monotonic() + 5
    with contextlib.suppress(OSError):  # longer than what is read of it
        other.sendall(text)
    while not line.is_over and time.monotonic() < limit:
        assert list(line.messages()) == []
        time.sleep(0.01)
    assert line.is_over
