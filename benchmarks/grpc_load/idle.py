"""Connections that have made one call and then do nothing, as those of clients in a pool."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack

DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, ACK, END_HEADERS = 1, 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SECONDS = 30.0


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream_id) + payload


def _fields(port: int) -> bytes:
    """A header block that uses no table."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/tensorflow.serving.PredictionService/Predict",
        b":authority": b"127.0.0.1:%d" % port,
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    return b"".join(b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in fields.items())


def open_connections(stack: ExitStack, port: int, count: int, message: bytes) -> list[socket.socket]:
    """Connections to 127.0.0.1, each after a call with `message`; `stack` closes them. Raises OSError."""
    request = frame(HEADERS, END_HEADERS, 1, _fields(port)) + frame(DATA, END_STREAM, 1, message)
    opening = _PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0) + request
    connections = []
    for _ in range(count):
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), _SECONDS))
        connection.sendall(opening)
        connections.append(connection)
    for connection in connections:
        _read_answer(connection)
    return connections


def _read_answer(connection: socket.socket) -> None:
    """Until the trailers of the call have come."""
    received = b""
    while True:
        while len(received) < 9 or len(received) < 9 + int.from_bytes(received[:3], "big"):
            more = connection.recv(65536)
            if not more:
                raise ConnectionError("the server closed a connection before its answer")
            received += more
        kind, flags = received[3], received[4]
        if kind == HEADERS and flags & END_STREAM:
            return
        received = received[9 + int.from_bytes(received[:3], "big") :]


def are_open(connections: list[socket.socket]) -> bool:
    """Whether the server has closed none of them."""
    for connection in connections:
        connection.setblocking(False)
        try:
            while connection.recv(65536):
                continue
        except BlockingIOError:
            continue
        return False
    return True
