"""What RFC 9113 says that an endpoint MUST do about a peer that breaks its rules, section by section, byte by byte."""

from __future__ import annotations

import pytest

from pyserving.transports.http2.errors import ErrorCode
from tests.transports.http2 import peer
from tests.transports.http2.peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Ended,
    Service,
    block,
    connected,
    frame,
    headers,
    integer,
    message,
    request,
    serving,
)

PROTOCOL = ErrorCode.PROTOCOL_ERROR
FLOW = ErrorCode.FLOW_CONTROL_ERROR
SIZE = ErrorCode.FRAME_SIZE_ERROR
CLOSED = ErrorCode.STREAM_CLOSED
COMPRESSION = ErrorCode.COMPRESSION_ERROR
CALM = ErrorCode.ENHANCE_YOUR_CALM
LAST = END_HEADERS | END_STREAM
HELD = headers(1, of=block("/t.T/Hold")) + frame(DATA, END_STREAM, 1, message())
ANSWERED = request(1)


def setting(identifier: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, identifier.to_bytes(2, "big") + integer(value))


def malformed(*more: tuple[str, str], without: str = "") -> bytes:
    return headers(1, LAST, block("/t.T/Echo", *more, without=without))


def raw_field(name: bytes, value: bytes) -> bytes:
    return headers(1, LAST, block() + b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value)


THE_CONNECTION = [
    ("3.4", "SETTINGS do not come first", PREFACE + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    ("3.4", "HEADERS come first", PREFACE + headers(1), PROTOCOL),
    ("3.4", "DATA come first", PREFACE + frame(DATA, 0, 1, b"x"), PROTOCOL),
    ("3.4", "an acknowledgement comes first", PREFACE + frame(SETTINGS, ACK, 0), PROTOCOL),
    ("3.4", "no preface", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", PROTOCOL),
]
AFTER_THE_PREFACE = [
    ("4.2", "a frame over the limit", (1 << 21).to_bytes(3, "big") + bytes([DATA, 0]) + integer(1), SIZE),
    ("4.3", "a block that does not decode", headers(1, of=b"\xff\xff\xff\xff\xff\xff"), COMPRESSION),
    ("4.3", "an index beyond the table", headers(1, of=b"\xfe"), COMPRESSION),
    ("4.3", "trailers that do not decode", headers(1) + headers(1, LAST, b"\x80"), COMPRESSION),
    ("4.3", "a frame within a header block", headers(1, 0) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    ("4.3", "another stream's frame within a header block", headers(1, 0) + headers(3), PROTOCOL),
    ("4.3", "an unknown frame within a header block", headers(1, 0) + frame(0xAA, 0, 1), PROTOCOL),
    ("5.1", "DATA on an idle stream", frame(DATA, 0, 1, b"x"), PROTOCOL),
    ("5.1", "RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, integer(8)), PROTOCOL),
    ("5.1", "WINDOW_UPDATE on an idle stream", frame(WINDOW_UPDATE, 0, 1, integer(1)), PROTOCOL),
    ("5.1", "CONTINUATION on an idle stream", frame(CONTINUATION, END_HEADERS, 1), PROTOCOL),
    ("5.1", "DATA after the stream's end", ANSWERED + frame(DATA, 0, 1, b"x"), CLOSED),
    ("5.1", "HEADERS after the stream's end", ANSWERED + headers(1, LAST), CLOSED),
    ("5.1", "DATA after the peer's reset",
     HELD + frame(RST_STREAM, 0, 1, integer(8)) + frame(DATA, 0, 1, b"x"), CLOSED),
    ("5.1.1", "a server's stream", headers(2), PROTOCOL),
    ("5.1.1", "a smaller stream than before", request(5) + headers(3), CLOSED),
    ("6.1", "DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL),
    ("6.1", "padding as long as DATA", headers(1) + frame(DATA, PADDED, 1, b"\x02x"), PROTOCOL),
    ("6.2", "HEADERS on stream 0", headers(0), PROTOCOL),
    ("6.2", "padding as long as HEADERS", frame(HEADERS, END_HEADERS | PADDED, 1, b"\x02x"), PROTOCOL),
    ("6.2", "HEADERS without their padding's length", frame(HEADERS, END_HEADERS | PADDED, 1), SIZE),
    ("6.2", "HEADERS without their priority", frame(HEADERS, END_HEADERS | PRIORITISED, 1, b"abc"), SIZE),
    ("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    ("6.4", "RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, integer(8)), PROTOCOL),
    ("6.4", "RST_STREAM of another size", headers(1) + frame(RST_STREAM, 0, 1, bytes(3)), SIZE),
    ("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1), PROTOCOL),
    ("6.5", "SETTINGS of a broken length", frame(SETTINGS, 0, 0, bytes(5)), SIZE),
    ("6.5", "an acknowledgement that says something", frame(SETTINGS, ACK, 0, bytes(6)), SIZE),
    ("6.5.2", "ENABLE_PUSH of 2", setting(2, 2), PROTOCOL),
    ("6.5.2", "an initial window too large", setting(4, 1 << 31), FLOW),
    ("6.5.2", "a maximal frame too small", setting(5, (1 << 14) - 1), PROTOCOL),
    ("6.5.2", "a maximal frame too large", setting(5, 1 << 24), PROTOCOL),
    ("6.6", "PUSH_PROMISE", headers(1) + frame(PUSH_PROMISE, END_HEADERS, 1, integer(2)), PROTOCOL),
    ("6.7", "PING on a stream", frame(PING, 0, 1, bytes(8)), PROTOCOL),
    ("6.7", "PING of another size", frame(PING, 0, 0, bytes(7)), SIZE),
    ("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    ("6.8", "GOAWAY too short", frame(GOAWAY, 0, 0, bytes(7)), SIZE),
    ("6.9", "an increment of 0", frame(WINDOW_UPDATE, 0, 0, integer(0)), PROTOCOL),
    ("6.9", "WINDOW_UPDATE of another size", frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    ("6.9.1", "a window too large", frame(WINDOW_UPDATE, 0, 0, integer((1 << 31) - 1)), FLOW),
    ("6.9.2", "a stream's window too large by SETTINGS",
     HELD + frame(WINDOW_UPDATE, 0, 1, integer((1 << 31) - 65536)) + setting(4, 65536), FLOW),
    ("6.10", "CONTINUATION of nothing", headers(1) + frame(CONTINUATION, END_HEADERS, 1), PROTOCOL),
    ("6.10", "CONTINUATION on stream 0", headers(1, 0) + frame(CONTINUATION, END_HEADERS, 0), PROTOCOL),
]  # fmt: skip
THE_STREAM = [
    ("5.1", "DATA when the request has ended", HELD + frame(DATA, 0, 1, b"x"), CLOSED),
    ("5.1", "HEADERS when the request has ended", HELD + headers(1, LAST), CLOSED),
    ("6.3", "PRIORITY of another size", headers(1) + frame(PRIORITY, 0, 1, bytes(4)), SIZE),
    ("6.9", "an increment of 0", HELD + frame(WINDOW_UPDATE, 0, 1, integer(0)), PROTOCOL),
    ("6.9.1", "a window too large", HELD + frame(WINDOW_UPDATE, 0, 1, integer((1 << 31) - 1)), FLOW),
    ("8.1", "trailers that do not end the stream", headers(1) + headers(1, of=b""), PROTOCOL),
    ("8.1", "trailers with a pseudo-header", headers(1) + headers(1, LAST, b"\x83"), PROTOCOL),
    ("8.1.1", "less DATA than content-length",
     headers(1, of=block("/t.T/Echo", ("content-length", "7"))) + frame(DATA, END_STREAM, 1, message()), PROTOCOL),
    ("8.1.1", "a content-length that is no number", malformed(("content-length", "-1")), PROTOCOL),
    ("8.2.1", "a name in upper case", raw_field(b"Name", b"value"), PROTOCOL),
    ("8.2.1", "a name with a space", raw_field(b"na me", b"value"), PROTOCOL),
    ("8.2.1", "an empty name", raw_field(b"", b"value"), PROTOCOL),
    ("8.2.1", "a value with a line break", raw_field(b"name", b"val\nue"), PROTOCOL),
    ("8.2.1", "a value with a zero", raw_field(b"name", b"val\0ue"), PROTOCOL),
    ("8.2.1", "a value that begins with a space", raw_field(b"name", b" value"), PROTOCOL),
    ("8.2.2", "a field for HTTP/1 connections", malformed(("connection", "close")), PROTOCOL),
    ("8.2.2", "TE other than trailers", malformed(("te", "gzip")), PROTOCOL),
    ("8.3", "an unknown pseudo-header", malformed((":name", "value")), PROTOCOL),
    ("8.3", "a pseudo-header after others", malformed((":authority", "b"), without=":authority"), PROTOCOL),
    ("8.3", "a response's pseudo-header", headers(1, LAST, b"\x88"), PROTOCOL),
    ("8.3.1", "no :method", malformed(without=":method"), PROTOCOL),
    ("8.3.1", "no :scheme", malformed(without=":scheme"), PROTOCOL),
    ("8.3.1", "no :path", malformed(without=":path"), PROTOCOL),
    ("8.3.1", "an empty :path", headers(1, LAST, block("")), PROTOCOL),
    ("8.3.1", "two :path", headers(1, LAST, b"\x84" + block()), PROTOCOL),
]  # fmt: skip
ALLOWED = [
    ("3.4", "settings of any kind", setting(0xABC, 1) + setting(1, 0) + setting(3, 0) + setting(6, 1)),
    ("4.1", "a reserved bit", frame(PING, 0, 1 << 31, bytes(8))),
    ("4.1", "an unknown flag", frame(PING, 0xFE, 0, bytes(8))),
    ("5.1", "PRIORITY on an idle stream", frame(PRIORITY, 0, 9, bytes(5))),
    ("5.1", "PRIORITY when all is over", ANSWERED + frame(PRIORITY, 0, 1, bytes(5))),
    ("5.1", "WINDOW_UPDATE when all is over", ANSWERED + frame(WINDOW_UPDATE, 0, 1, integer(1))),
    ("5.1", "RST_STREAM when all is over", ANSWERED + frame(RST_STREAM, 0, 1, integer(8))),
    ("5.5", "a frame of an unknown type", frame(0xAA, 0xFF, 7, bytes(70_000))),
    ("6.8", "GOAWAY", frame(GOAWAY, 0, 0, bytes(8) + b"because")),
    ("6.10", "a block in pieces",
     headers(3, END_STREAM, block()[:7]) + frame(CONTINUATION, 0, 3) + frame(CONTINUATION, 4, 3, block()[7:])),
    ("8.3.1", "no :authority", headers(3, LAST, block(without=":authority"))),
]  # fmt: skip


def ids(cases):
    return [f"{section} {case}" for section, case, *_ in cases]


@pytest.fixture
async def server():
    async with serving(Service()) as server:
        yield server


@pytest.mark.parametrize(("section", "case", "sent", "code"), THE_CONNECTION, ids=ids(THE_CONNECTION))
async def test_a_bad_beginning_ends_the_connection(server, section, case, sent, code):
    async with connected(server, greets=False) as client:
        client.send(sent)
        assert await client.end() == Ended(0, code)
        assert await client.frame() is None


@pytest.mark.parametrize(("section", "case", "sent", "code"), AFTER_THE_PREFACE, ids=ids(AFTER_THE_PREFACE))
async def test_an_error_of_the_connection_ends_it_and_no_other(server, section, case, sent, code):
    async with connected(server) as client, connected(server) as other:
        client.send(sent)
        end = await client.end()
        while end.stream_id:  # some cases leave a stream of their own behind first
            end = await client.end()
        assert end == Ended(0, code)
        assert await client.frame() is None
        other.send(request(1, b"still here"))
        assert (await other.answer(1)).data == message(b"still here")


@pytest.mark.parametrize(("section", "case", "sent", "code"), THE_STREAM, ids=ids(THE_STREAM))
async def test_an_error_of_a_stream_ends_it_and_no_other(server, section, case, sent, code):
    async with connected(server) as client:
        client.send(sent)
        assert await client.end() == Ended(1, code)
        client.send(request(3, b"still here"))
        assert (await client.answer(3)).data == message(b"still here")


@pytest.mark.parametrize(("section", "case", "sent"), ALLOWED, ids=ids(ALLOWED))
async def test_what_is_allowed_ends_nothing(server, section, case, sent):
    async with connected(server) as client:
        client.send(sent)
        client.send(request(5, b"still here"))
        assert (await client.answer(5)).data == message(b"still here")


@pytest.mark.parametrize("size", [1, 3, 7, 50])
async def test_frames_may_come_in_any_pieces(size):
    service = Service()
    sent = PREFACE + frame(SETTINGS, 0, 0) + headers(1, 0, block()[:9]) + frame(CONTINUATION, 4, 1, block()[9:])
    body = message(b"0123456789")
    sent += frame(DATA, PADDED, 1, b"\x03" + body[:4] + bytes(3)) + frame(DATA, PADDED, 1, b"\x05" + bytes(5))
    sent += frame(0xBB, 0, 0, b"unknown") + frame(DATA, PADDED | END_STREAM, 1, b"\x02" + body[4:] + bytes(2))
    async with serving(service) as server, connected(server, greets=False) as client:
        for start in range(0, len(sent), size):
            client.send(sent[start : start + size])
            await client.writer.drain()
            await peer.asyncio.sleep(0)
        assert (await client.answer(1)).data == body
    assert bytes(service.calls[0][0]) == b"0123456789"


async def test_settings_are_acknowledged_and_pings_are_returned(server):
    async with connected(server) as client:
        client.send(frame(PING, 0, 0, b"12345678"))
        while not (acknowledged := await client.until(SETTINGS)).flags & ACK:
            pass
        assert acknowledged.payload == b""
        assert (await client.until(PING))[:] == (PING, ACK, 0, b"12345678")


async def test_a_ping_that_answers_is_not_answered(server):
    async with connected(server) as client:
        client.send(frame(PING, ACK, 0, b"answered"))
        client.send(frame(PING, 0, 0, b"question"))
        assert (await client.until(PING)).payload == b"question"
