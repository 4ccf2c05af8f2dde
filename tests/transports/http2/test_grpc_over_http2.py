"""gRPC's own rules on top of HTTP/2: content types, methods, paths, timeouts, metadata and the framing of messages."""

from __future__ import annotations

import asyncio

import pytest

from pyserving.transports.http2.errors import ErrorCode
from tests.transports.http2.peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
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

OK, INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED = "0", "13", "8", "12"


@pytest.fixture
async def service():
    return Service()


@pytest.fixture
async def client(service):
    async with serving(service) as server, connected(server) as client:
        yield client


def with_field(name: str, value: str) -> bytes:
    return headers(1, of=block("/t.T/Echo", (name, value), without=name)) + frame(DATA, END_STREAM, 1, message(b"x"))


@pytest.mark.parametrize(
    "content_type",
    ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "application/grpc+json"],
)
async def test_these_content_types_are_grpc(client, content_type):
    client.send(with_field("content-type", content_type))
    assert (await client.answer(1)).status == (OK, "")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json", "application/grpcx", "APPLICATION"])
async def test_these_content_types_are_not(client, content_type):
    client.send(with_field("content-type", content_type))
    answer = await client.answer(1)
    assert answer.fields == {":status": "415", "content-length": "0"}


async def test_a_request_without_a_content_type_is_not_grpc(client):
    client.send(headers(1, of=block(without="content-type")) + frame(DATA, END_STREAM, 1, message()))
    assert (await client.answer(1)).fields[":status"] == "415"


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"OPTIONS", b"post"])
async def test_grpc_knows_one_method_only(client, method):
    named = b"\x02" + bytes([len(method)]) + method
    client.send(headers(1, END_HEADERS | END_STREAM, named + block(without=":method")))
    assert (await client.answer(1)).fields[":status"] == "405"


async def test_te_may_be_left_out(client):
    client.send(headers(1, of=block(without="te")) + frame(DATA, END_STREAM, 1, message(b"x")))
    assert (await client.answer(1)).data == message(b"x")


@pytest.mark.parametrize("path", ["/", "//", "/t.T", "/t.T/", "/t.T/echo", "/t.T/Echo/", "t.T/Echo", "*", "/t.T/\xff"])
async def test_a_path_that_names_no_method_is_unimplemented(client, path):
    client.send(request(1, b"", path) + request(3, b"next"))
    assert (await client.answer(1)).status == (UNIMPLEMENTED, "")
    assert (await client.answer(3)).data == message(b"next")


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        ("1H", 3600),
        ("2M", 120),
        ("30S", 30),
        ("30000m", 30),
        ("30000000u", 30),
        ("99999999n", 0.099999999),
        ("99999999H", 99999999 * 3600),
    ],
)
async def test_a_timeout_is_read_in_its_unit(service, client, timeout, seconds):
    client.send(request(1, b"", "/t.T/Echo", ("grpc-timeout", timeout)))
    await client.answer(1)
    ((_, call),) = service.calls
    assert call.deadline == pytest.approx(asyncio.get_running_loop().time() + seconds, abs=5)


@pytest.mark.parametrize(
    "timeout", ["", "1", "S", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S", "0x1S", "1SS", "١S"]
)
async def test_a_timeout_that_cannot_be_read_is_none(service, client, timeout):
    client.send(request(1, b"x", "/t.T/Echo", ("grpc-timeout", timeout)))
    assert (await client.answer(1)).status == (OK, "")
    assert service.calls[0][1].deadline is None


@pytest.mark.parametrize("value", ["!", "A", "AAAAA", "AA=A"])
async def test_a_binary_field_that_is_not_base64_is_malformed(client, value):
    client.send(request(1, b"", "/t.T/Echo", ("blob-bin", value)))
    assert await client.end() == Ended(1, ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    ("value", "meaning"), [("", b""), ("AA", b"\0"), ("AA==", b"\0"), ("AAE=", b"\0\1"), ("AA,AQ", b"\1")]
)
async def test_a_binary_field_may_be_padded_or_not(service, client, value, meaning):
    client.send(request(1, b"", "/t.T/Echo", ("blob-bin", value)))
    await client.answer(1)
    assert service.calls[0][1].metadata["blob-bin"] == meaning


FRAMING = [
    ("nothing", [b""], INTERNAL),
    ("a part of the prefix", [b"\0\0\0"], INTERNAL),
    ("a prefix without its message", [b"\0" + integer(1)], INTERNAL),
    ("less than was announced", [message(b"hello")[:-1]], INTERNAL),
    ("more than was announced", [message(b"hello") + b"\0"], INTERNAL),
    ("two messages in one frame", [message(b"1") + message(b"2")], INTERNAL),
    ("two messages in two frames", [message(b"1"), message(b"2")], INTERNAL),
    ("a message and an empty one", [message(b"1"), message()], INTERNAL),
    ("a flag of 2", [b"\2" + integer(0)], INTERNAL),
    ("a flag of 255", [b"\xff" + integer(0)], INTERNAL),
    ("compressed, and no compression named", [b"\1" + integer(1) + b"x"], INTERNAL),
    ("four gigabytes announced and five bytes sent", [b"\0" + integer((1 << 32) - 1) + b"hello"], INTERNAL),
    ("one message in many frames", [bytes([byte]) for byte in message(b"hello")], OK),
    ("one message with empty frames between", [b"", message(b"hello")[:3], b"", message(b"hello")[3:], b""], OK),
    ("an empty message", [message()], OK),
]


@pytest.mark.parametrize(("case", "data", "code"), FRAMING, ids=[case for case, *_ in FRAMING])
async def test_messages_are_framed_as_they_should_be_or_refused(client, case, data, code):
    client.send(headers(1) + b"".join(frame(DATA, 0, 1, piece) for piece in data[:-1]))
    client.send(frame(DATA, END_STREAM, 1, data[-1]) + request(3, b"next"))
    assert (await client.answer(1)).status[0] == code
    assert (await client.answer(3)).data == message(b"next")


@pytest.mark.parametrize(
    "damaged", [b"no gzip at all", b"\x1f\x8b\x08\0\0\0\0\0", b"", b"\x1f\x8b\x08\0\0\0\0\0\0\3\xff\xff"]
)
async def test_a_message_that_does_not_unpack_is_internal(client, damaged):
    packed = b"\1" + integer(len(damaged)) + damaged
    client.send(headers(1, of=block("/t.T/Echo", ("grpc-encoding", "gzip"))) + frame(DATA, END_STREAM, 1, packed))
    assert (await client.answer(1)).status[0] == INTERNAL
    client.send(request(3, b"next"))
    assert (await client.answer(3)).data == message(b"next")


@pytest.mark.parametrize("data", [b"\0\0\0", b"\7" + integer(0), message(b"1") + b"\0\0", b"\1" + integer(1) + b"x"])
async def test_a_stream_of_messages_is_refused_where_it_goes_wrong(client, data):
    client.send(headers(1, of=block("/t.T/Double")) + frame(DATA, END_STREAM, 1, data))
    assert (await client.answer(1)).status[0] == INTERNAL


async def test_a_stream_may_have_no_message_at_all(client):
    client.send(headers(1, END_HEADERS | END_STREAM, block("/t.T/Double")))
    answer = await client.answer(1)
    assert (answer.status, answer.data) == ((OK, ""), b"")
