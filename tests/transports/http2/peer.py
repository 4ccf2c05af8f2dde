"""A client of bytes: it says what a test wants said, right or wrong, and reads what comes back frame by frame."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from typing import NamedTuple

import hpack

from pyserving.transports.admission import Admission
from pyserving.transports.http2 import Http2Server
from pyserving.transports.http2.errors import ErrorCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK, END_STREAM, END_HEADERS, PADDED, PRIORITISED = 1, 1, 4, 8, 32
SECONDS = 10.0
"""Generous; nothing waits this long when all is well."""


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + payload


def integer(value: int) -> bytes:
    return struct.pack(">I", value)


def message(body: bytes = b"") -> bytes:
    return b"\0" + integer(len(body)) + body


def block(path: str = "/t.T/Echo", *more: tuple[str, str], without: str = "") -> bytes:
    """A request's header block that leaves the dynamic table alone."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "a",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    fields.pop(without, None)
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in [*fields.items(), *more]])


def headers(stream_id: int, flags: int = END_HEADERS, of: bytes | None = None) -> bytes:
    return frame(HEADERS, flags, stream_id, block() if of is None else of)


def request(stream_id: int, body: bytes = b"hello", path: str = "/t.T/Echo", *more: tuple[str, str]) -> bytes:
    return headers(stream_id, of=block(path, *more)) + frame(DATA, END_STREAM, stream_id, message(body))


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


class Ended(NamedTuple):
    """How a connection or a stream (not 0) was ended by the server."""

    stream_id: int
    code: ErrorCode


class Answer:
    """What has come back on one stream."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.data = b""
        self.is_over = False

    @property
    def status(self) -> tuple[str, str]:
        return self.fields.get("grpc-status", ""), self.fields.get("grpc-message", "")


class Peer:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.decoder = hpack.Decoder()
        self.answers: dict[int, Answer] = {}

    def greet(self, settings: bytes = b"") -> None:
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self) -> Frame | None:
        """The next one; None when the server has closed the connection."""
        try:
            head = await asyncio.wait_for(self.reader.readexactly(9), SECONDS)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def until(self, kind: int) -> Frame:
        """The next frame of this kind; others are taken in on the way."""
        while (frame := await self.frame()) is not None:
            self._note(frame)
            if frame.kind == kind:
                return frame
        raise AssertionError(f"closed before a frame of type {kind} came")

    async def answer(self, stream_id: int) -> Answer:
        """What a stream is answered, when that is complete."""
        while not (answer := self.answers.setdefault(stream_id, Answer())).is_over:
            frame = await self.frame()
            assert frame is not None, "closed before the answer was complete"
            self._note(frame)
        return answer

    async def end(self) -> Ended:
        """How the server ends the connection or the first stream that it resets, which it must do."""
        while (frame := await self.frame()) is not None:
            if frame.kind == RST_STREAM:
                return Ended(frame.stream_id, ErrorCode(int.from_bytes(frame.payload, "big")))
            if frame.kind == GOAWAY:
                return Ended(0, ErrorCode(int.from_bytes(frame.payload[4:8], "big")))
            self._note(frame)
        raise AssertionError("closed without a word")

    async def sync(self) -> None:
        """Everything that was sent has been taken in."""
        self.send(frame(PING, 0, 0, b"in sync?"))
        while True:
            pong = await self.until(PING)
            if pong.flags & ACK and pong.payload == b"in sync?":
                return

    def _note(self, frame: Frame) -> None:
        answer = self.answers.setdefault(frame.stream_id, Answer())
        if frame.kind == HEADERS:
            answer.fields |= dict(self.decoder.decode(frame.payload))
        elif frame.kind == DATA:
            answer.data += frame.payload
        answer.is_over |= frame.kind in (DATA, HEADERS) and bool(frame.flags & END_STREAM)


@asynccontextmanager
async def serving(service, admission=None, addresses=("127.0.0.1:0",), **more):
    """`service` has `methods` and `stream_methods`."""
    async with Http2Server(
        service.methods,
        service.stream_methods,
        addresses=addresses,
        admission=admission or Admission(10_000, 1 << 30),
        **more,
    ) as server:
        yield server


@asynccontextmanager
async def connected(server, *, greets=True, receive_bytes=None):
    """`receive_bytes`: what the system keeps for a client that does not read."""
    connection = socket.socket(proto=socket.IPPROTO_TCP)  # what asyncio does not hold small packets back for
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", server.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 26)
    peer = Peer(reader, writer)
    if greets:
        peer.greet()
    try:
        yield peer
    finally:
        writer.close()


class Service:
    """Methods whose calls a test can look at and hold."""

    def __init__(self) -> None:
        self.calls: list = []
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def echo(self, body, call):
        self.calls.append((body, call))
        return bytes(body)

    async def hold(self, body, call):
        self.calls.append((body, call))
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return bytes(body)

    async def give(self, body, call):
        return bytes(int(bytes(body)))

    async def double(self, requests, call):
        async for body in requests:
            yield bytes(body)
            yield bytes(body)

    async def read_none(self, requests, call):
        self.started.set()
        await self.release.wait()
        async for body in requests:
            yield bytes(body)

    @property
    def methods(self):
        return {"/t.T/Echo": self.echo, "/t.T/Hold": self.hold, "/t.T/Give": self.give}

    @property
    def stream_methods(self):
        return {"/t.T/Double": self.double, "/t.T/ReadNone": self.read_none}
