"""What RFC 9113 says that an endpoint MUST do about a peer that breaks its rules, section by section, byte by byte."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyserving.transports.http2 import Limits
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
    ("3.4", "a preface that goes wrong", PREFACE[:-3] + b"XX\r\n", PROTOCOL),
    ("3.4", "no preface", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", PROTOCOL),
]
AFTER_THE_PREFACE = [
    ("4.2", "a frame over the limit", (1 << 21).to_bytes(3, "big") + bytes([DATA, 0]) + integer(1), SIZE),
    ("4.2", "an unknown frame over the limit", (1 << 21).to_bytes(3, "big") + bytes([0xAA, 0]) + integer(0), SIZE),
    ("4.2", "a HEADERS frame over the limit", (1 << 21).to_bytes(3, "big") + bytes([HEADERS, 0]) + integer(1), SIZE),
    ("4.3", "a block that does not decode", headers(1, of=b"\xff\xff\xff\xff\xff\xff"), COMPRESSION),
    ("4.3", "an index beyond the table", headers(1, of=b"\xfe"), COMPRESSION),
    ("4.3", "a dynamic table larger than ours", headers(1, of=b"\x3f\xe2\x1f" + block()), COMPRESSION),
    ("4.3", "a change of the table's size between fields", headers(1, of=block() + b"\x20"), COMPRESSION),
    ("4.3", "a block that ends within a field", headers(1, of=block()[:-1]), COMPRESSION),
    ("4.3", "a broken block in CONTINUATION",
     headers(1, 0, block()) + frame(CONTINUATION, END_HEADERS, 1, b"\x80"), COMPRESSION),
    ("4.3", "a broken block for a stream that is refused",
     headers(1, LAST, block("/t.T/Nothing")) + headers(3, LAST, b"\x80"), COMPRESSION),
    ("4.3", "trailers that do not decode", headers(1) + headers(1, LAST, b"\x80"), COMPRESSION),
    ("4.3", "a frame within a header block", headers(1, 0) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    ("4.3", "another stream's frame within a header block", headers(1, 0) + headers(3), PROTOCOL),
    ("4.3", "an unknown frame within a header block", headers(1, 0) + frame(0xAA, 0, 1), PROTOCOL),
    ("4.3", "HEADERS again within a header block", headers(1, 0) + headers(1), PROTOCOL),
    ("4.3", "DATA within a header block", headers(1, 0) + frame(DATA, 0, 1), PROTOCOL),
    ("4.3", "another stream's CONTINUATION", headers(1, 0) + frame(CONTINUATION, END_HEADERS, 3), PROTOCOL),
    ("5.1", "DATA on an idle stream", frame(DATA, 0, 1, b"x"), PROTOCOL),
    ("5.1", "RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, integer(8)), PROTOCOL),
    ("5.1", "WINDOW_UPDATE on an idle stream", frame(WINDOW_UPDATE, 0, 1, integer(1)), PROTOCOL),
    ("5.1", "CONTINUATION on an idle stream", frame(CONTINUATION, END_HEADERS, 1), PROTOCOL),
    ("5.1", "DATA after the stream's end", ANSWERED + frame(DATA, 0, 1, b"x"), CLOSED),
    ("5.1", "HEADERS after the stream's end", ANSWERED + headers(1, LAST), CLOSED),
    ("5.1", "DATA after the peer's reset",
     HELD + frame(RST_STREAM, 0, 1, integer(8)) + frame(DATA, 0, 1, b"x"), CLOSED),
    ("5.1", "HEADERS after the peer's reset",
     HELD + frame(RST_STREAM, 0, 1, integer(8)) + headers(1, LAST), CLOSED),
    ("5.1", "CONTINUATION when the block has ended", HELD + frame(CONTINUATION, END_HEADERS, 1), PROTOCOL),
    ("5.1", "DATA on an idle server's stream", frame(DATA, 0, 2, b"x"), PROTOCOL),
    ("5.1.1", "a server's stream", headers(2), PROTOCOL),
    ("5.1.1", "a smaller stream than before", request(5) + headers(3), CLOSED),
    ("5.1.1", "DATA on a stream that was passed over", request(5) + frame(DATA, 0, 3, b"x"), CLOSED),
    ("5.5", "an unknown frame between HEADERS and CONTINUATION of stream 0",
     headers(1, 0) + frame(0xAA, 0, 0, b"x"), PROTOCOL),
    ("6.1", "DATA without their padding's length", headers(1) + frame(DATA, PADDED, 1), SIZE),
    ("6.1", "padding and nothing of its length", headers(1) + frame(DATA, PADDED, 1, b"\x01"), PROTOCOL),
    ("6.1", "DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL),
    ("6.1", "padding as long as DATA", headers(1) + frame(DATA, PADDED, 1, b"\x02x"), PROTOCOL),
    ("6.2", "HEADERS on stream 0", headers(0), PROTOCOL),
    ("6.2", "padding as long as HEADERS", frame(HEADERS, END_HEADERS | PADDED, 1, b"\x02x"), PROTOCOL),
    ("6.2", "padding that leaves no room for a priority",
     frame(HEADERS, END_HEADERS | PADDED | PRIORITISED, 1, b"\x03" + bytes(7)), PROTOCOL),
    ("6.2", "HEADERS without their padding's length", frame(HEADERS, END_HEADERS | PADDED, 1), SIZE),
    ("6.2", "HEADERS without their priority", frame(HEADERS, END_HEADERS | PRIORITISED, 1, b"abc"), SIZE),
    ("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    ("6.4", "RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, integer(8)), PROTOCOL),
    ("6.4", "RST_STREAM too large", headers(1) + frame(RST_STREAM, 0, 1, bytes(5)), SIZE),
    ("6.4", "RST_STREAM of another size", headers(1) + frame(RST_STREAM, 0, 1, bytes(3)), SIZE),
    ("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1), PROTOCOL),
    ("6.5", "SETTINGS of a broken length", frame(SETTINGS, 0, 0, bytes(5)), SIZE),
    ("6.5", "an acknowledgement on a stream", frame(SETTINGS, ACK, 1), PROTOCOL),
    ("6.5", "an acknowledgement that says something", frame(SETTINGS, ACK, 0, bytes(6)), SIZE),
    ("6.5.2", "a right setting and a wrong one", frame(SETTINGS, 0, 0, b"\0\1" + bytes(4) + b"\0\5" + integer(1)),
     PROTOCOL),
    ("6.5.2", "ENABLE_PUSH of 2", setting(2, 2), PROTOCOL),
    ("6.5.2", "an initial window too large", setting(4, 1 << 31), FLOW),
    ("6.5.2", "a maximal frame too small", setting(5, (1 << 14) - 1), PROTOCOL),
    ("6.5.2", "a maximal frame too large", setting(5, 1 << 24), PROTOCOL),
    ("6.6", "PUSH_PROMISE", headers(1) + frame(PUSH_PROMISE, END_HEADERS, 1, integer(2)), PROTOCOL),
    ("6.7", "a PING that answers on a stream", frame(PING, ACK, 1, bytes(8)), PROTOCOL),
    ("6.7", "a PING too large", frame(PING, 0, 0, bytes(9)), SIZE),
    ("6.7", "PING on a stream", frame(PING, 0, 1, bytes(8)), PROTOCOL),
    ("6.7", "PING of another size", frame(PING, 0, 0, bytes(7)), SIZE),
    ("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    ("6.8", "GOAWAY too short", frame(GOAWAY, 0, 0, bytes(7)), SIZE),
    ("6.9", "an increment of 0", frame(WINDOW_UPDATE, 0, 0, integer(0)), PROTOCOL),
    ("6.9", "WINDOW_UPDATE of another size on a stream", HELD + frame(WINDOW_UPDATE, 0, 1, bytes(5)), SIZE),
    ("6.9", "WINDOW_UPDATE of another size", frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    ("6.9.1", "a window too large", frame(WINDOW_UPDATE, 0, 0, integer((1 << 31) - 1)), FLOW),
    ("6.9.2", "a stream's window too large by SETTINGS",
     HELD + frame(WINDOW_UPDATE, 0, 1, integer((1 << 31) - 65536)) + setting(4, 65536), FLOW),
    ("6.9.1", "a window too large step by step",
     frame(WINDOW_UPDATE, 0, 0, integer(1 << 30)) + frame(WINDOW_UPDATE, 0, 0, integer(1 << 30)), FLOW),
    ("6.10", "CONTINUATION after CONTINUATION has ended the block",
     headers(1, 0, block()[:5]) + frame(CONTINUATION, END_HEADERS, 1, block()[5:]) + frame(CONTINUATION, 0, 1),
     PROTOCOL),
    ("6.10", "CONTINUATION of nothing", headers(1) + frame(CONTINUATION, END_HEADERS, 1), PROTOCOL),
    ("6.10", "CONTINUATION on stream 0", headers(1, 0) + frame(CONTINUATION, END_HEADERS, 0), PROTOCOL),
]  # fmt: skip
THE_STREAM = [
    ("5.1", "DATA when the request has ended", HELD + frame(DATA, 0, 1, b"x"), CLOSED),
    ("5.1", "HEADERS when the request has ended", HELD + headers(1, LAST), CLOSED),
    ("6.3", "PRIORITY of another size", headers(1) + frame(PRIORITY, 0, 1, bytes(4)), SIZE),
    ("6.9", "an increment of 0", HELD + frame(WINDOW_UPDATE, 0, 1, integer(0)), PROTOCOL),
    ("6.9.1", "a window too large", HELD + frame(WINDOW_UPDATE, 0, 1, integer((1 << 31) - 1)), FLOW),
    ("8.1", "DATA after trailers",
     headers(1, of=block("/t.T/Hold")) + frame(DATA, 0, 1, message()) + headers(1, LAST, b"") + frame(DATA, 0, 1, b"x"),
     CLOSED),
    ("8.1", "trailers that do not end the stream", headers(1) + headers(1, of=b""), PROTOCOL),
    ("8.1", "trailers with a pseudo-header", headers(1) + headers(1, LAST, b"\x83"), PROTOCOL),
    ("8.1.1", "less DATA than content-length",
     headers(1, of=block("/t.T/Echo", ("content-length", "7"))) + frame(DATA, END_STREAM, 1, message()), PROTOCOL),
    ("8.1.1", "more DATA than content-length",
     headers(1, of=block("/t.T/Echo", ("content-length", "4"))) + frame(DATA, END_STREAM, 1, message()), PROTOCOL),
    ("8.1.1", "a content-length and no DATA", malformed(("content-length", "5")), PROTOCOL),
    ("8.1.1", "a content-length, and DATA that trailers end too early",
     headers(1, of=block("/t.T/Echo", ("content-length", "7"))) + frame(DATA, 0, 1, message()) + headers(1, LAST, b""),
     PROTOCOL),
    ("8.1.1", "a content-length that is no number", malformed(("content-length", "-1")), PROTOCOL),
    ("8.2.1", "a name in upper case", raw_field(b"Name", b"value"), PROTOCOL),
    ("8.2.1", "a name with a space", raw_field(b"na me", b"value"), PROTOCOL),
    ("8.2.1", "an empty name", raw_field(b"", b"value"), PROTOCOL),
    ("8.2.1", "a name with a colon", raw_field(b"na:me", b"value"), PROTOCOL),
    ("8.2.1", "a name with a delete", raw_field(b"na\x7fme", b"value"), PROTOCOL),
    ("8.2.1", "a name that is not ASCII", raw_field(b"n\xe4me", b"value"), PROTOCOL),
    ("8.2.1", "a value with a carriage return", raw_field(b"name", b"val\rue"), PROTOCOL),
    ("8.2.1", "a value that ends with a tab", raw_field(b"name", b"value\t"), PROTOCOL),
    ("8.2.1", "a name in upper case among trailers",
     headers(1) + headers(1, LAST, b"\0\1N\1v"), PROTOCOL),
    ("8.2.1", "a value with a line break", raw_field(b"name", b"val\nue"), PROTOCOL),
    ("8.2.1", "a value with a zero", raw_field(b"name", b"val\0ue"), PROTOCOL),
    ("8.2.1", "a value that begins with a space", raw_field(b"name", b" value"), PROTOCOL),
    ("8.2.2", "a field for HTTP/1 connections", malformed(("connection", "close")), PROTOCOL),
    ("8.2.2", "keep-alive", malformed(("keep-alive", "5")), PROTOCOL),
    ("8.2.2", "proxy-connection", malformed(("proxy-connection", "close")), PROTOCOL),
    ("8.2.2", "transfer-encoding", malformed(("transfer-encoding", "chunked")), PROTOCOL),
    ("8.2.2", "upgrade", malformed(("upgrade", "h2c")), PROTOCOL),
    ("8.2.2", "TE other than trailers", malformed(("te", "gzip")), PROTOCOL),
    ("8.3", "an unknown pseudo-header", malformed((":name", "value")), PROTOCOL),
    ("8.3", "a pseudo-header after others", malformed((":authority", "b"), without=":authority"), PROTOCOL),
    ("8.3", "a response's pseudo-header", headers(1, LAST, b"\x88"), PROTOCOL),
    ("8.3.1", "no :method", malformed(without=":method"), PROTOCOL),
    ("8.3.1", "no :scheme", malformed(without=":scheme"), PROTOCOL),
    ("8.3.1", "no :path", malformed(without=":path"), PROTOCOL),
    ("8.3.1", "an empty :path", headers(1, LAST, block("")), PROTOCOL),
    ("8.3.1", "two :method", headers(1, LAST, b"\x83" + block()), PROTOCOL),
    ("8.3.1", "two :scheme", headers(1, LAST, b"\x86" + block()), PROTOCOL),
    ("8.3.1", "two :authority", headers(1, LAST, b"\x01\1a" + block()), PROTOCOL),
    ("8.5", "CONNECT, which nobody offers",
     headers(1, LAST, b"\x02\7CONNECT\x01\1a"), PROTOCOL),
    ("8.3.1", "two :path", headers(1, LAST, b"\x84" + block()), PROTOCOL),
]  # fmt: skip
ALLOWED = [
    ("3.4", "settings of any kind", setting(0xABC, 1) + setting(1, 0) + setting(3, 0) + setting(6, 1)),
    ("4.1", "a reserved bit", frame(PING, 0, 1 << 31, bytes(8))),
    ("4.1", "a reserved bit on a window update", frame(WINDOW_UPDATE, 0, 0, integer(1 << 31 | 5))),
    ("4.1", "an unknown flag", frame(PING, 0xFE, 0, bytes(8))),
    ("4.3", "a table that is made smaller and as large as it was", headers(3, LAST, b"\x20\x3f\xe1\x1f" + block())),
    ("5.1", "PRIORITY when the request has ended", HELD + frame(PRIORITY, 0, 1, bytes(5))),
    ("5.1", "WINDOW_UPDATE when the request has ended", HELD + frame(WINDOW_UPDATE, 0, 1, integer(1))),
    ("5.1", "RST_STREAM when the request has ended", HELD + frame(RST_STREAM, 0, 1, integer(8))),
    ("5.1", "what was on its way when the server reset the stream",
     headers(1, of=b"\x83") + frame(DATA, 0, 1, b"x") + frame(WINDOW_UPDATE, 0, 1, integer(1)) + headers(1, LAST, b"")),
    ("5.1.1", "streams that are passed over", request(3)),
    ("5.3.2", "a stream that depends on itself", frame(PRIORITY, 0, 3, integer(3) + b"\7")),
    ("5.3.2", "HEADERS with a priority", frame(HEADERS, LAST | PRIORITISED, 3, bytes(5) + block())),
    ("5.4.1", "an error code that nobody knows", frame(GOAWAY, 0, 0, bytes(4) + integer(0xBEEF))),
    ("5.1", "PRIORITY on an idle stream", frame(PRIORITY, 0, 9, bytes(5))),
    ("5.1", "PRIORITY when all is over", ANSWERED + frame(PRIORITY, 0, 1, bytes(5))),
    ("5.1", "WINDOW_UPDATE when all is over", ANSWERED + frame(WINDOW_UPDATE, 0, 1, integer(1))),
    ("5.1", "RST_STREAM when all is over", ANSWERED + frame(RST_STREAM, 0, 1, integer(8))),
    ("5.5", "a frame of an unknown type", frame(0xAA, 0xFF, 7, bytes(70_000))),
    ("6.1", "DATA with nothing in them", headers(3) + frame(DATA, 0, 3) + frame(DATA, END_STREAM, 3, message())),
    ("6.1", "padding of nothing", headers(3) + frame(DATA, PADDED | END_STREAM, 3, b"\0" + message())),
    ("6.1", "padding and no DATA", headers(3) + frame(DATA, PADDED, 3, b"\3" + bytes(3))),
    ("6.2", "padded HEADERS", frame(HEADERS, LAST | PADDED, 3, b"\4" + block() + bytes(4))),
    ("6.5.3", "an acknowledgement that nobody waits for", frame(SETTINGS, ACK, 0) * 3),
    ("7", "a reset for a reason that nobody knows", HELD + frame(RST_STREAM, 0, 1, integer(0xBEEF))),
    ("8.1", "trailers", headers(3) + frame(DATA, 0, 3, message()) + headers(3, LAST, b"\0\1a\1b")),
    ("8.1.1", "as much DATA as content-length says, in two frames",
     headers(3, of=block("/t.T/Echo", ("content-length", "5"))) + frame(DATA, 0, 3, bytes(2))
     + frame(DATA, END_STREAM, 3, bytes(3))),
    ("8.2.3", "cookies in pieces", headers(3, LAST, block("/t.T/Echo", ("cookie", "a=b"), ("cookie", "c=d")))),
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


async def test_an_endpoint_is_told_which_streams_were_taken(server):
    # RFC 9113, section 5.4.1.
    async with connected(server) as client:
        client.send(request(1) + request(7) + frame(PING, 0, 1, bytes(8)))
        goaway = await client.until(GOAWAY)
        assert int.from_bytes(goaway.payload[:4], "big") == 7


async def test_a_reset_is_not_answered_with_a_reset(server):
    # RFC 9113, section 5.4.2.
    async with connected(server) as client:
        client.send(HELD + frame(RST_STREAM, 0, 1, integer(8)) + request(3, b"next"))
        while (got := await client.frame()).kind != HEADERS:
            assert got.kind != RST_STREAM
        assert got.stream_id == 3


async def test_padding_counts_as_data_do():
    # RFC 9113, section 6.9.1.
    limits = replace(Limits(), connection_window=70_000, stream_window=1000, large_stream_window=1000)
    async with serving(Service(), limits=limits) as server, connected(server) as client:
        client.send(headers(1, of=block("/t.T/ReadNone")))
        padded = frame(DATA, PADDED, 1, b"\xfa" + message() + bytes(0xFA))
        client.send(padded * 3)
        await client.sync()
        client.send(padded)
        assert await client.end() == Ended(1, FLOW)


async def test_an_answer_with_nothing_in_its_window_waits_and_an_error_does_not(server):
    # RFC 9113, section 6.9.1: only DATA needs a window.
    async with connected(server) as client:
        client.send(setting(4, 0) + request(1, b"hello") + request(3, b"", "/t.T/Nothing"))
        assert (await client.answer(3)).status == ("12", "")
        await client.sync()
        assert not client.answers[1].data
        client.send(frame(WINDOW_UPDATE, 0, 1, integer(100)))
        assert (await client.answer(1)).data == message(b"hello")


async def test_no_more_streams_than_were_announced_are_taken():
    # RFC 9113, section 5.1.2.
    limits = replace(Limits(), max_concurrent_streams=1)
    async with serving(Service(), limits=limits) as server, connected(server) as client:
        client.send(HELD + request(3))
        assert await client.end() == Ended(3, ErrorCode.REFUSED_STREAM)


async def test_the_last_of_all_streams_is_served_and_none_after_it(server):
    # RFC 9113, section 5.1.1.
    last = (1 << 31) - 1
    async with connected(server) as client:
        client.send(request(last, b"the last"))
        assert (await client.answer(last)).data == message(b"the last")
        client.send(request(1))
        assert await client.end() == Ended(0, CLOSED)


async def test_one_connection_serves_request_after_request(server):
    # RFC 9113, section 9.1.
    async with connected(server) as client:
        for number in range(1, 400, 2):
            client.send(request(number, b"%d" % number))
            assert (await client.answer(number)).data == message(b"%d" % number)
