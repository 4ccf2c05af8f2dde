"""Bytes as the script of one whole connection: what its client sends, when, and what else happens to it meanwhile."""

from __future__ import annotations

import asyncio
import logging
from asyncio.events import _set_running_loop
from dataclasses import replace
from random import Random

from pyserving.errors import FailedPrecondition
from pyserving.messages import Later
from pyserving.transports.admission import Admission
from pyserving.transports.http2 import Limits
from pyserving.transports.http2.header_cache import Heads
from pyserving.transports.http2.service import Service
from pyserving.transports.http2.wire import ReceiveBuffer, Wire
from tests.fuzz.puppet_loop import PuppetLoop, PuppetTransport
from tests.fuzz.witness import Credit, Witness
from tests.transports.http2.peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    integer,
    message,
)

PATHS = ["/t.T/Echo", "/t.T/Hold", "/t.T/Large", "/t.T/Fail", "/t.T/Double", "/t.T/ReadNone", "/t.T/Nothing"]
BLOCKS = [
    *(block(path) for path in PATHS),
    block("/t.T/Echo", ("grpc-encoding", "gzip")),
    block("/t.T/Double", ("grpc-encoding", "deflate")),
    block("/t.T/Hold", ("grpc-timeout", "1S")),
    block("/t.T/Echo", ("content-length", "10")),
    block("/t.T/Echo", ("grpc-encoding", "snappy")),
    block("/t.T/Echo", ("x-bin", "AAAA")),
    block(without="content-type"),
    block(without="te") + b"\x40\x01a\x01b",
    block() + b"\xbe",
    b"\x20" + block(),
]
INCREMENTS = [0, 1, 10, 1000, 65_535, 1 << 20, (1 << 31) - 1, (1 << 31) - 65_536]
SECONDS = [0.01, 0.2, 1.5, 3.0, 25.0, 61.0, 130.0]
CODES = [0, 7, 8, 1 << 31]
LIMITS = [
    Limits(),
    Limits(
        max_receive_message=300,
        max_send_message=3000,
        max_concurrent_streams=3,
        max_header_list=500,
        max_header_block=600,
        max_frame=1 << 14,
        stream_window=400,
        large_stream_window=900,
        connection_window=70_000,
        max_held=2000,
        max_unsent=500,
        resets_at_once=6.0,
        resets_per_second=1.0,
        idle_frames_at_once=12.0,
        idle_frames_per_second=1.0,
        max_connection_age=100.0,
        max_connection_age_grace=20.0,
        max_connection_idle=50.0,
        keepalive_time=30.0,
    ),
    replace(Limits(), max_held=100_000, max_concurrent_streams=2, stall_timeout=1.0, linger=0.5),
]
MAX_HELD = 1 << 20
_SETTINGS = [(1, 0), (2, 0), (2, 2), (3, 0), (4, 0), (4, 5), (4, 100_000), (4, 1 << 31), (5, 1 << 14), (5, 1), (9, 9)]
_receive = ReceiveBuffer(256 << 10)


class Methods:
    """Of every kind: at once, later, large, failing, streaming."""

    def __init__(self, loop: PuppetLoop) -> None:
        self._loop = loop
        self._release: asyncio.Future[None] = loop.create_future()

    def release(self) -> None:
        """Calls that wait go on; later ones wait again."""
        released, self._release = self._release, self._loop.create_future()
        released.set_result(None)

    async def echo(self, body, call):
        return bytes(body)

    async def hold(self, body, call):
        call.reserve(100)
        await asyncio.shield(self._release)
        return bytes(body)

    async def large(self, body, call):
        return bytes(body) * 300

    async def fail(self, body, call):
        raise FailedPrecondition(" größer\n")

    async def double(self, requests, call):
        async for body in requests:
            yield bytes(body)
            yield bytes(body) * 300

    async def read_none(self, requests, call):
        await asyncio.shield(self._release)
        yield b"at last"

    def quick_echo(self, body, deadline):
        return self._quickly(bytes(body))

    def quick_large(self, body, deadline):
        return self._quickly(bytes(body) * 300)

    def _quickly(self, answer):
        """An answer or an error, now or at the end of the turn, or neither: its length tells which."""
        way = len(answer) % 5
        outcome = FailedPrecondition("not so quick") if way > 2 else answer
        if way in (1, 3):
            later = Later()
            self._loop.call_soon(lambda: later.deliver(later, outcome))
            return later
        if way == 4:
            raise outcome
        return outcome if way == 2 else None

    @property
    def quick_methods(self):
        return {"/t.T/Echo": self.quick_echo, "/t.T/Large": self.quick_large}

    @property
    def methods(self):
        return {"/t.T/Echo": self.echo, "/t.T/Hold": self.hold, "/t.T/Large": self.large, "/t.T/Fail": self.fail}

    @property
    def stream_methods(self):
        return {"/t.T/Double": self.double, "/t.T/ReadNone": self.read_none}


class Script:
    """Numbers and strings out of bytes; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._i = 0

    @property
    def goes_on(self) -> bool:
        return self._i < len(self._data)

    def byte(self) -> int:
        self._i += 1
        return self._data[self._i - 1] if self._i <= len(self._data) else 0

    def one_of(self, choices):
        return choices[self.byte() % len(choices)]

    def bytes(self) -> bytes:
        size = self.byte()
        self._i += size
        return self._data[self._i - size : self._i]

    def rest(self) -> bytes:
        rest, self._i = self._data[self._i :], len(self._data)
        return rest


class Play:
    """One connection on its stage."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._loop = PuppetLoop()
        _set_running_loop(self._loop)
        self._methods = Methods(self._loop)
        self._admission = Admission(20, MAX_HELD)
        stage = script.byte()
        self._limits = LIMITS[stage % len(LIMITS)]
        quick_methods = self._methods.quick_methods if stage // len(LIMITS) % 2 else {}
        heads = Heads(self._limits.max_header_list)
        service = Service(
            self._methods.methods,
            self._methods.stream_methods,
            self._admission,
            self._limits,
            _no_offset,
            heads,
            quick_methods,
        )
        self._wires: set[Wire] = set()
        self.wire = Wire(service, _receive, self._wires, lambda wire: None)
        self.transport = PuppetTransport(self._loop, self.wire)
        self.wire.connection_made(self.transport)
        self._service = service
        self._pending = b""
        self._sent = bytearray()
        self._last_id = 1

    def run(self) -> None:
        kind = self._script.byte() % 4
        if kind:
            self._pending = PREFACE + frame(SETTINGS, 0, 0)
        if kind == 1:
            self._pending += self._script.rest()
        while self._script.goes_on and not self.transport.is_lost:
            self._script.one_of(_ACTS)(self)
        self._deliver()
        self.transport.unstick()
        self._loop.run_ready()
        self._check()
        self._finish()

    def _finish(self) -> None:
        """When the peer is gone, nothing is left of it."""
        self.transport.hang_up()
        self._methods.release()
        self._loop.run_ready()
        assert not self._wires
        assert not self._service.ending, "a call outlives its connection"
        assert (self._admission.calls, self._admission.bytes, self._admission.held) == (0, 0, 0)
        self._loop.advance(1000.0)
        assert not self._loop.troubles, self._loop.troubles
        sent = bytes(self._sent[len(PREFACE) :])
        Witness(Credit(sent)).examine(bytes(self.transport.written))

    def _check(self) -> None:
        connection, limits = self.wire.connection, self._limits
        assert len(connection.streams) <= limits.max_concurrent_streams
        assert connection.promised == 0, "the turn is over, and an answer that was promised for it is missing"
        assert 0 <= connection._held <= limits.max_held
        assert 0 <= self._admission.held <= MAX_HELD
        assert len(connection._given_up) <= 1 << 10
        assert len(self.wire._leftover) <= limits.max_header_block + 9
        assert not self._loop.troubles, self._loop.troubles

    def _deliver(self) -> None:
        """What the client has said comes in, in pieces as the script has it."""
        self._loop.run_ready()
        pending, self._pending = self._pending, b""
        while pending and self.transport.is_reading and not self.transport.is_closing():
            buffer = self.wire.get_buffer(-1)
            size = min(self._script.byte() or len(pending), len(buffer))
            piece, pending = pending[:size], pending[size:]
            buffer[: len(piece)] = piece
            self._sent += piece
            self.wire.buffer_updated(len(piece))
        self._pending = pending
        self._loop.run_ready()
        self._check()

    def _say(self, kind: int, flags: int, stream_id: int, payload: bytes = b"") -> None:
        self._pending += frame(kind, flags, stream_id, payload)

    def _a_stream(self) -> int:
        return max(self._last_id - 2 * (self._script.byte() % 4), 0)

    # Acts

    def begin(self) -> None:
        self._last_id += 2
        flags = self._script.one_of([END_HEADERS, END_HEADERS, END_HEADERS | END_STREAM, 0])
        self._say(HEADERS, flags, self._last_id, self._script.one_of(BLOCKS))

    def ask(self) -> None:
        self._last_id += 2
        self._say(HEADERS, END_HEADERS, self._last_id, self._script.one_of(BLOCKS))
        self._say(DATA, END_STREAM, self._last_id, message(bytes(self._script.byte())))

    def fields(self) -> None:
        flags = self._script.byte()
        self._last_id += 2 * (flags >> 7)
        self._say(HEADERS, flags, self._last_id, self._script.bytes())

    def go_on_with_fields(self) -> None:
        self._say(CONTINUATION, self._script.one_of([0, END_HEADERS]), self._last_id, self._script.one_of(BLOCKS)[8:])

    def message(self) -> None:
        body = message(bytes(self._script.byte()))
        self._say(DATA, self._script.one_of([0, END_STREAM]), self._a_stream(), body)

    def data(self) -> None:
        self._say(DATA, self._script.byte(), self._a_stream(), self._script.bytes())

    def much_data(self) -> None:
        body = message(
            bytes(self._script.byte() << self._script.one_of([6, 8]))
        )  # few or many bytes to be read in place
        self._say(DATA, 0, self._a_stream(), body[self._script.byte() % 7 :])

    def credit(self) -> None:
        self._say(
            WINDOW_UPDATE, 0, self._script.one_of([0, self._a_stream()]), integer(self._script.one_of(INCREMENTS))
        )

    def settings(self) -> None:
        identifier, value = self._script.one_of(_SETTINGS)
        self._say(SETTINGS, self._script.one_of([0, 0, ACK]), 0, identifier.to_bytes(2, "big") + integer(value))

    def reset(self) -> None:
        self._say(RST_STREAM, 0, self._a_stream(), integer(self._script.one_of(CODES)))

    def ping(self) -> None:
        self._say(
            PING, self._script.one_of([0, ACK]), 0, self._script.one_of([b"drained?", b"alive?\0\0", b"12345678"])
        )

    def anything(self) -> None:
        self._say(self._script.byte() % 12, self._script.byte(), self._a_stream(), self._script.bytes())

    def noise(self) -> None:
        self._pending += self._script.bytes()

    def wait(self) -> None:
        self._deliver()
        self._loop.advance(self._script.one_of(SECONDS))
        self.wire.connection.check(self._loop.time(), is_mid_frame=self.wire.is_mid_frame)
        self._loop.run_ready()
        self._check()

    def release(self) -> None:
        self._deliver()
        self._methods.release()
        self._loop.run_ready()

    def stick(self) -> None:
        self._deliver()
        self.transport.is_stuck = True

    def unstick(self) -> None:
        self.transport.unstick()
        self._deliver()

    def drain(self) -> None:
        self._deliver()
        self.wire.connection.departure.drain(ends_streams=bool(self._script.byte() & 1))
        self._loop.run_ready()

    def cut_off(self) -> None:
        self._deliver()
        self.wire.connection.departure.cut_off()


_ACTS = [
    *(Play.begin, Play.ask, Play.ask, Play.fields, Play.go_on_with_fields, Play.message, Play.data, Play.much_data),
    *(Play.credit, Play.settings, Play.reset, Play.ping, Play.anything, Play.noise, Play._deliver, Play.wait),
    *(Play.release, Play.stick, Play.unstick, Play.drain, Play.cut_off),
]


_ASK = _ACTS.index(Play.ask)


def busy_script(dice: Random) -> bytes:
    """Of a client that greets, and mostly asks what can be answered: by chance alone few scripts come that far."""
    script = bytearray([dice.randrange(2 * len(LIMITS)), 2])
    for _ in range(dice.randrange(1, 60)):
        if dice.random() < 0.5:
            script += bytes([_ASK, dice.choice([0, 0, 0, 2, dice.randrange(len(BLOCKS))]), dice.randrange(256)])
        else:
            script += bytes([dice.randrange(len(_ACTS)), dice.randrange(8), dice.randrange(8)])
    return bytes(script)


def _no_offset(head: memoryview, size: int) -> None:
    return None


class _Complaints(logging.Handler):
    """The server logs an error only for what it did not expect."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(f"logged: {record.getMessage()}") from (record.exc_info[1] if record.exc_info else None)


_complaints = _Complaints(logging.WARNING)


def play(data: bytes) -> None:
    """Run the connection that `data` describes. AssertionError, or what has escaped, when it goes wrong."""
    logger = logging.getLogger("pyserving")
    logger.addHandler(_complaints)
    try:
        Play(Script(data)).run()
    finally:
        _set_running_loop(None)
        logger.removeHandler(_complaints)
