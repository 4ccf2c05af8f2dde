"""Large messages are read to where they belong, past the buffer that everything else is read into."""

from __future__ import annotations

from asyncio.events import _set_running_loop

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.transports.admission import Admission
from pyserving.transports.http2 import Limits
from pyserving.transports.http2.errors import ErrorCode
from pyserving.transports.http2.header_cache import Heads
from pyserving.transports.http2.service import Service
from pyserving.transports.http2.wire import ReceiveBuffer, Wire
from tests.fuzz.puppet_loop import PuppetLoop, PuppetTransport
from tests.transports.http2.peer import (
    DATA,
    END_STREAM,
    HEADERS,
    PADDED,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    block,
    frame,
    headers,
    integer,
    message,
    request,
)


class Conversation:
    """A connection in memory: what is said to it comes in pieces, as large as it likes or as told."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.loop = PuppetLoop()
        _set_running_loop(self.loop)
        self.bodies: list[bytes] = []
        """Of the requests that came."""
        self.admission = Admission(100, 1 << 30)
        limits = limits or Limits()
        methods = {"/t.T/Echo": self._echo}
        heads = Heads(limits.max_header_list)
        service = Service(methods, {}, self.admission, limits, lambda head, size: None, heads)
        self.shared = ReceiveBuffer(256 << 10)
        self.wire = Wire(service, self.shared, set(), lambda wire: None)
        self.transport = PuppetTransport(self.loop, self.wire)
        self.wire.connection_made(self.transport)
        self.copied = 0
        """Bytes that came through the shared buffer."""
        self.hear(PREFACE + frame(SETTINGS, 0, 0))

    async def _echo(self, body, call):
        self.bodies.append(bytes(body))
        return b"ok"

    def hear(self, data: bytes, *sizes: int) -> None:
        waiting = list(sizes)
        while data:
            buffer = self.wire.get_buffer(-1)
            size = min(len(data), len(buffer), waiting.pop(0) if waiting else len(data))
            buffer[:size] = data[:size]
            self.copied += size * (buffer.obj is self.shared.bytes)
            self.wire.buffer_updated(size)
            data = data[size:]
            self.loop.run_ready()

    def leave(self) -> None:
        self.transport.hang_up()
        assert not self.loop.troubles
        assert (self.admission.calls, self.admission.bytes, self.admission.held) == (0, 0, 0)


@pytest.fixture
def conversation():
    one = Conversation()
    yield one
    one.leave()
    _set_running_loop(None)


def pattern(size: int, seed: int = 0) -> bytes:
    return bytes((i * 7 + seed) % 251 for i in range(251)) * (size // 251 + 1)


def test_all_but_the_beginning_of_large_messages_is_read_in_place(conversation):
    bodies = [pattern(600_000, seed)[:600_000] for seed in range(8)]
    for number, body in enumerate(bodies):
        conversation.hear(request(2 * number + 1, body))
    assert conversation.bodies == bodies
    assert conversation.copied < (256 << 10) + 7 * 10_000  # before the first one, nobody knew that it would be large


def test_small_requests_after_large_ones_are_read_many_at_a_time(conversation):
    conversation.hear(request(1, pattern(600_000)))
    conversation.hear(b"".join(request(n, b"small") for n in range(3, 203, 2)))
    assert conversation.bodies[1:] == [b"small"] * 100
    assert len(conversation.wire.get_buffer(-1)) > 100_000


@given(st.data())
def test_messages_come_out_however_they_are_framed_and_cut(data):
    conversation = Conversation()
    said, bodies, left = b"", {}, {}
    for number in range(data.draw(st.integers(1, 4), "streams")):
        stream_id = 2 * number + 1
        bodies[stream_id] = pattern(60_000, number)[: data.draw(st.integers(0, 60_000), "size")]
        left[stream_id] = message(bodies[stream_id])
        said += headers(stream_id)
    expected = []
    while left:
        stream_id = data.draw(st.sampled_from(sorted(left)), "stream")
        size = data.draw(st.sampled_from([70_000, 40_000, 17_000, 4_000, 6, 5, 1]), "frame")
        piece, left[stream_id] = left[stream_id][:size], left[stream_id][size:]
        flags = 0 if left[stream_id] else END_STREAM
        padding = data.draw(st.sampled_from([None, 0, 1, 255]), "padding")
        if padding is None:
            said += frame(DATA, flags, stream_id, piece)
        else:
            said += frame(DATA, flags | PADDED, stream_id, bytes([padding]) + piece + bytes(padding))
        if not left[stream_id]:
            del left[stream_id]
            expected.append(bodies[stream_id])
    conversation.hear(said, *data.draw(st.lists(st.integers(1, 50_000)), "pieces"))
    assert conversation.bodies == expected
    conversation.leave()
    _set_running_loop(None)


def test_a_second_message_in_place_is_an_error_of_its_call_alone(conversation):
    both = message(pattern(50_000)) * 2
    conversation.hear(headers(1))
    conversation.hear(frame(DATA, END_STREAM, 1, both), 9, 20_000)
    conversation.hear(request(3, b"next"))
    assert conversation.bodies == [b"next"]
    assert b"More than one request message" in conversation.transport.written


def test_a_stream_that_is_given_up_in_the_middle_of_a_frame_is_read_past():
    conversation = Conversation(Limits(stall_timeout=5.0))
    data = frame(DATA, END_STREAM, 1, message(pattern(400_000)))
    conversation.hear(headers(1) + data[:100_000])
    conversation.loop.advance(5.0)
    conversation.wire.connection.check(conversation.loop.time(), is_mid_frame=False)
    conversation.loop.run_ready()
    assert b"The request stood still" in conversation.transport.written
    conversation.hear(data[100_000:] + request(3, b"next"))
    assert conversation.bodies == [b"next"]
    conversation.leave()
    _set_running_loop(None)


def test_a_length_that_was_not_kept_resets_the_stream(conversation):
    body = message(pattern(50_000))
    conversation.hear(headers(1, of=block("/t.T/Echo", ("content-length", "50006"))))
    conversation.hear(frame(DATA, END_STREAM, 1, body), 1_000)
    conversation.hear(request(3, b"next"))
    assert conversation.bodies == [b"next"]
    assert frame(RST_STREAM, 0, 1, integer(1)) in bytes(conversation.transport.written)


def test_a_message_that_lacks_its_end_is_an_error(conversation):
    conversation.hear(headers(1) + frame(DATA, END_STREAM, 1, message(pattern(50_000))[:-1]), 1_000)
    assert not conversation.bodies
    assert b"The request ends within a message" in conversation.transport.written


def test_bytes_that_come_while_the_connection_ends_are_nothing(conversation):
    conversation.hear(headers(1) + frame(DATA, END_STREAM, 1, message(pattern(400_000)))[:50_000], 1_000)
    conversation.wire.get_buffer(-1)
    conversation.wire.connection.abort()
    conversation.wire.buffer_updated(1_000)
    assert not conversation.bodies


def test_the_frame_that_follows_a_large_message_may_be_a_wrong_one(conversation):
    body = pattern(300_000)
    conversation.hear(request(1, body) + frame(HEADERS, 4, 3, b"\xff"))
    assert conversation.bodies == [body]
    assert integer(ErrorCode.COMPRESSION_ERROR) in conversation.transport.written
