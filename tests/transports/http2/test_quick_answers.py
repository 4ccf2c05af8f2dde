"""Requests that are answered at once: on the wire nothing tells them from others, in whatever pieces they come."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc.aio
import pytest

from pyserving.errors import InvalidArgument
from pyserving.transports.admission import Admission
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.transports.http2 import Limits
from pyserving.transports.http2.errors import ErrorCode
from pyserving.transports.tokens import Token, TokenCheck, digest_of
from tests.transports.http2.peer import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    RST_STREAM,
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

QUICK = "/t.T/Quick"


class QuickService(Service):
    """`Quick` repeats a number of bytes: at once, unless it is told to do it slowly."""

    def __init__(self):
        super().__init__()
        self.is_quick = True
        self.quick_bodies: list[bytes] = []
        self.slow_bodies: list[bytes] = []
        self.deadlines: list[float | None] = []

    def quick(self, body, deadline):
        if not self.is_quick:
            return None
        self.quick_bodies.append(bytes(body))
        self.deadlines.append(deadline)
        return repeated(body)

    async def slow(self, body, call):
        self.slow_bodies.append(bytes(body))
        return repeated(body)

    @property
    def methods(self):
        return {**super().methods, QUICK: self.slow}

    @property
    def quick_methods(self):
        return {QUICK: self.quick}


def repeated(body) -> bytes:
    """`ab*3` is `ababab`."""
    text, _, times = bytes(body).partition(b"*")
    if text == b"bad":
        raise InvalidArgument("größer")
    if text == b"bug":
        raise RuntimeError("a secret")
    return text * int(times or 1)


@pytest.fixture
async def service():
    return QuickService()


@asynccontextmanager
async def quickly(service, admission=None, *, settings=b"", **more):
    """A client of a server with quick methods."""
    async with (
        serving(service, admission, quick_methods=service.quick_methods, **more) as server,
        connected(server, greets=False) as client,
    ):
        client.greet(settings)
        await client.sync()  # what is sent next comes in one piece
        yield client


def ask(stream_id: int, body: bytes = b"hello", *more: tuple[str, str]) -> bytes:
    return request(stream_id, body, QUICK, *more)


async def test_it_is_answered_without_its_method(service):
    async with quickly(service) as client:
        client.send(ask(1))
        answer = await client.answer(1)
    assert answer.data == message(b"hello")
    assert answer.fields == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity, deflate, gzip",
        "grpc-status": "0",
    }
    assert (service.quick_bodies, service.slow_bodies) == ([b"hello"], [])


async def test_what_it_cannot_answer_its_method_does(service):
    service.is_quick = False
    async with quickly(service) as client:
        client.send(ask(1) + ask(3, b"next"))
        assert (await client.answer(1)).data == message(b"hello")
        assert (await client.answer(3)).data == message(b"next")
    assert service.slow_bodies == [b"hello", b"next"]


@pytest.mark.parametrize("size", [1, 7, 9, 10])
async def test_however_the_bytes_come_the_answers_are_the_same(service, size):
    async with quickly(service) as client:
        wire = ask(1) + ask(3, b"") + ask(5, b"x*1000") + ask(7, b"bad")
        for at in range(0, len(wire), size):
            client.send(wire[at : at + size])
            for _ in range(3):
                await asyncio.sleep(0)  # the server reads what is there
        answers = [await client.answer(n) for n in (1, 3, 5, 7)]
    assert [answer.data for answer in answers] == [message(b"hello"), message(b""), message(b"x" * 1000), b""]
    assert answers[3].status == ("3", "gr%C3%B6%C3%9Fer")
    assert len(service.quick_bodies) == 4


PIECES = {
    "HEADERS, then DATA": [headers(1, of=block(QUICK)), frame(DATA, END_STREAM, 1, message(b"hello"))],
    "an empty DATA at the end": [
        headers(1, of=block(QUICK)) + frame(DATA, 0, 1, message(b"hello")) + frame(DATA, END_STREAM, 1)
    ],
    "a message in two frames": [
        headers(1, of=block(QUICK)) + frame(DATA, 0, 1, message(b"hello")[:6]),
        frame(DATA, END_STREAM, 1, message(b"hello")[6:]),
    ],
    "padding": [
        headers(1, of=block(QUICK)) + frame(DATA, END_STREAM | PADDED, 1, b"\3" + message(b"hello") + bytes(3))
    ],
    "a block in two frames": [
        headers(1, 0, block(QUICK)[:5]) + frame(9, END_HEADERS, 1, block(QUICK)[5:]),
        frame(DATA, END_STREAM, 1, message(b"hello")),
    ],
    "trailers": [
        headers(1, of=block(QUICK))
        + frame(DATA, 0, 1, message(b"hello"))
        + headers(1, END_HEADERS | END_STREAM, b"\x40\x01a\x01b")
    ],
    "others between": [
        headers(1, of=block(QUICK)) + request(3, b"other") + frame(DATA, END_STREAM, 1, message(b"hello"))
    ],
}


@pytest.mark.parametrize("case", PIECES)
async def test_a_request_in_pieces_is_answered_as_quickly(service, case):
    async with quickly(service) as client:
        for piece in PIECES[case]:
            client.send(piece)
            await client.sync()
        assert (await client.answer(1)).data == message(b"hello")
    assert service.quick_bodies == [b"hello"]


async def test_a_message_larger_than_one_read_is_answered_quickly(service):
    body = b"x" * 300_000 + b"*0"
    async with quickly(service) as client:
        client.send(frame(WINDOW_UPDATE, 0, 0, integer(1 << 20)) + ask(1, body) + ask(3, b"next"))
        assert (await client.answer(1)).data == message(b"")
        assert (await client.answer(3)).data == message(b"next")
    assert service.quick_bodies == [body, b"next"]


async def test_a_compressed_request_goes_the_long_way(service):
    async with quickly(service) as client:
        client.send(headers(1, of=block(QUICK, ("grpc-encoding", "gzip"))))
        client.send(frame(DATA, END_STREAM, 1, b"\1" + message(gzip.compress(b"hello"))[1:]))
        assert (await client.answer(1)).data == message(b"hello")
    assert service.slow_bodies == [b"hello"]


async def test_an_unknown_compression_is_refused_though_nothing_is_compressed(service):
    async with quickly(service) as client:
        client.send(ask(1, b"hello", ("grpc-encoding", "snappy")))
        assert (await client.answer(1)).status[0] == "12"
    assert service.quick_bodies == []


async def test_its_error_is_told_as_that_of_its_method(service):
    for service.is_quick in (True, False):
        async with quickly(service) as client:
            client.send(ask(1, b"bad"))
            assert (await client.until(HEADERS)).flags & END_STREAM
            assert client.answers[1].status == ("3", "gr%C3%B6%C3%9Fer")


async def test_a_bug_is_told_as_that_of_its_method(service, caplog):
    statuses = []
    for service.is_quick in (True, False):
        async with quickly(service) as client:
            client.send(ask(1, b"bug") + ask(3, b"next"))
            statuses.append((await client.answer(1)).status)
            assert (await client.answer(3)).data == message(b"next")
    assert statuses[0] == statuses[1]
    assert "a secret" not in statuses[0][1]
    assert caplog.text.count("RuntimeError: a secret") == 2


async def test_it_is_told_its_deadline(service):
    async with quickly(service) as client:
        before = asyncio.get_running_loop().time()
        client.send(ask(1, b"", ("grpc-timeout", "50S")) + ask(3))
        await client.answer(3)
    assert service.deadlines == [pytest.approx(before + 50, abs=5), None]


# Windows and sizes


async def test_its_answer_waits_for_the_streams_window(service):
    async with quickly(service, settings=b"\0\4" + integer(10)) as client:
        client.send(ask(1, b"ab*50") + ask(3, b"abcde"))
        assert (await client.answer(3)).data == message(b"abcde")
        await client.sync()
        assert len(client.answers[1].data) == 10
        client.send(frame(WINDOW_UPDATE, 0, 1, integer(1000)))
        assert (await client.answer(1)).data == message(b"ab" * 50)
    assert service.quick_bodies == [b"ab*50", b"abcde"]


async def test_its_answer_waits_for_the_connections_window(service):
    admission = Admission(100, 1 << 30)
    async with quickly(service, admission, settings=b"\0\4" + integer(1 << 20)) as client:
        client.send(ask(1, b"x*65000") + ask(3, b"y*1000"))
        await client.answer(1)
        await client.sync()
        assert not client.answers[3].is_over
        assert admission.held == 1000
        client.send(frame(WINDOW_UPDATE, 0, 0, integer(1 << 20)))
        assert (await client.answer(3)).data == message(b"y" * 1000)
        await client.sync()
        assert admission.held == 0


async def test_its_answer_in_frames_as_large_as_the_peer_takes(service):
    async with quickly(service, settings=b"\0\4" + integer(1 << 20)) as client:
        client.send(frame(WINDOW_UPDATE, 0, 0, integer(1 << 20)) + ask(1, b"x*40000"))
        sizes = []
        while not client.answers.get(1) or not client.answers[1].is_over:
            got = await client.frame()
            client._note(got)
            if got.kind == DATA:
                sizes.append(len(got.payload))
    assert sizes == [16384, 16384, 40005 - 2 * 16384]


async def test_an_answer_that_waits_is_given_up_with_its_stream(service):
    admission = Admission(100, 1 << 30)
    async with quickly(service, admission, settings=b"\0\4" + integer(10)) as client:
        client.send(ask(1, b"ab*50"))
        await client.sync()
        assert admission.held == 100
        client.send(frame(RST_STREAM, 0, 1, integer(ErrorCode.CANCEL)) + ask(3, b"ab"))
        assert (await client.answer(3)).data == message(b"ab")
        assert admission.held == 0


async def test_an_answer_that_nobody_has_memory_for_is_refused(service):
    async with quickly(service, Admission(100, 150), settings=b"\0\4" + integer(10)) as client:
        client.send(ask(1, b"ab*50") + ask(3, b"ab*50"))
        assert (await client.answer(3)).status[0] == "8"
        client.send(frame(WINDOW_UPDATE, 0, 1, integer(1000)))
        assert (await client.answer(1)).data == message(b"ab" * 50)


async def test_an_answer_over_the_limit_is_not_sent(service):
    arguments = [("grpc.max_send_message_length", 1000)]
    for service.is_quick in (True, False):
        async with quickly(service, channel_arguments=arguments) as client:
            client.send(ask(1, b"x*1001") + ask(3, b"x*1000"))
            assert (await client.answer(1)).status == ("8", "Sent message larger than max (1001 vs. 1000)")
            assert (await client.answer(3)).data == message(b"x" * 1000)


async def test_a_request_over_the_limit_is_refused(service):
    arguments = [("grpc.max_receive_message_length", 10)]
    async with quickly(service, channel_arguments=arguments) as client:
        client.send(ask(1, b"x" * 11) + ask(3, b"x" * 10))
        status = (await client.answer(1)).status
        assert status == ("8", "SERVER: Received message larger than max (11 vs. 10)")
        assert (await client.answer(3)).data == message(b"x" * 10)
    assert service.quick_bodies == [b"x" * 10]


@pytest.mark.parametrize(
    "data", [b"", b"\0\0", message(b"hello")[:-1], message(b"hello") + b"\0", b"\1" + message(b"1")[1:]]
)
async def test_what_is_no_message_is_internal(service, data):
    async with quickly(service) as client:
        client.send(headers(1, of=block(QUICK)) + frame(DATA, END_STREAM, 1, data) + ask(3, b"next"))
        assert (await client.answer(1)).status[0] == "13"
        assert (await client.answer(3)).data == message(b"next")
    assert service.quick_bodies == [b"next"]


async def test_a_length_that_is_not_the_bodys_resets_the_stream(service):
    async with quickly(service) as client:
        client.send(ask(1, b"hello", ("content-length", "11")))
        assert await client.end() == Ended(1, ErrorCode.PROTOCOL_ERROR)
        client.send(ask(3, b"hello", ("content-length", "10")))
        assert (await client.answer(3)).data == message(b"hello")
    assert service.quick_bodies == [b"hello"]


async def test_a_request_beyond_the_streams_window_resets_the_stream(service):
    limits = Limits(stream_window=1 << 16, large_stream_window=1 << 17, connection_window=1 << 20, max_frame=1 << 17)
    async with quickly(service, limits=limits) as client:
        client.send(ask(1, bytes(70_000)))
        assert await client.end() == Ended(1, ErrorCode.FLOW_CONTROL_ERROR)
    assert service.quick_bodies == []


async def test_a_frame_beyond_the_limit_ends_the_connection(service):
    async with quickly(service, limits=replace(Limits(), max_frame=1 << 14)) as client:
        client.send(ask(1, bytes(20_000)))
        assert await client.end() == Ended(0, ErrorCode.FRAME_SIZE_ERROR)
    assert service.quick_bodies == []


async def test_credit_for_the_connection_is_given_back(service):
    async with quickly(service, limits=replace(Limits(), connection_window=1 << 16)) as client:
        for n in range(1, 41, 2):
            client.send(ask(n, b"x" * 19_993 + b"*0"))
            if n % 4 == 3:  # two of 20,000 bytes are more than half of the window
                credit = await client.until(WINDOW_UPDATE)
                assert (credit.stream_id, credit.payload) == (0, integer(40_000))
            assert (await client.answer(n)).data == message(b"")
    assert len(service.quick_bodies) == 20


# Streams


async def test_a_stream_that_was_answered_is_over(service):
    async with quickly(service) as client:
        client.send(ask(1) + frame(WINDOW_UPDATE, 0, 1, integer(5)) + frame(RST_STREAM, 0, 1, integer(8)) + ask(3))
        assert (await client.answer(3)).data == message(b"hello")
        client.send(frame(DATA, END_STREAM, 1, b"more"))
        assert await client.end() == Ended(0, ErrorCode.STREAM_CLOSED)


async def test_a_stream_cannot_be_begun_again(service):
    async with quickly(service) as client:
        client.send(ask(5) + ask(5))
        assert await client.end() == Ended(0, ErrorCode.STREAM_CLOSED)
    assert len(service.quick_bodies) == 1


async def test_streams_over_the_limit_are_refused_and_not_answered(service):
    async with quickly(service, limits=replace(Limits(), max_concurrent_streams=1)) as client:
        client.send(request(1, b"held", "/t.T/Hold") + ask(3))
        assert await client.end() == Ended(3, ErrorCode.REFUSED_STREAM)
        assert service.quick_bodies == []
        service.release.set()
        await client.answer(1)
        client.send(ask(5) + ask(7) + ask(9))
        assert (await client.answer(9)).data == message(b"hello")
    assert len(service.quick_bodies) == 3


async def test_answers_do_not_wait_for_calls_that_take_long(service):
    async with quickly(service) as client:
        client.send(request(1, b"held", "/t.T/Hold") + ask(3))
        assert (await client.answer(3)).data == message(b"hello")
        service.release.set()
        assert (await client.answer(1)).data == message(b"held")


async def test_after_the_last_word_nothing_is_answered(service):
    async with (
        serving(service, quick_methods=service.quick_methods) as server,
        connected(server) as client,
    ):
        client.send(request(1, b"one", "/t.T/Hold"))
        await service.started.wait()
        stopping = asyncio.create_task(server.stop(30))
        await client.until(GOAWAY)
        ping = await client.until(PING)
        client.send(ask(3, b"on its way") + frame(PING, ACK, 0, ping.payload) + ask(5, b"too late"))
        assert (await client.answer(3)).data == message(b"on its way")
        assert (await client.until(GOAWAY)).payload == integer(3) + integer(ErrorCode.NO_ERROR)
        service.release.set()
        assert (await client.answer(1)).data == message(b"one")
        assert await client.frame() is None
        client.writer.close()
        await stopping
    assert service.quick_bodies == [b"on its way"]


async def test_who_has_not_greeted_is_not_answered(service):
    async with (
        serving(service, quick_methods=service.quick_methods) as server,
        connected(server, greets=False) as client,
    ):
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + ask(1))
        assert await client.end() == Ended(0, ErrorCode.PROTOCOL_ERROR)
    assert service.quick_bodies == []


async def test_a_connection_that_only_gets_quick_answers_is_not_idle(service):
    async with serving(service, quick_methods=service.quick_methods) as server, connected(server) as client:
        await client.sync()
        (wire,) = server.wires
        wire.connection.patience.busy_at = 0.0  # long ago
        client.send(ask(1))
        await client.answer(1)
        assert wire.connection.patience.busy_at > 0.0
    assert len(service.quick_bodies) == 1


# Admission


@pytest.mark.parametrize("is_quick", [True, False])
async def test_calls_over_the_limit_are_shed_with_the_same_words(service, is_quick):
    service.is_quick = is_quick
    shed = []
    admission = Admission(1, 1 << 20, on_shed=shed.append)
    async with quickly(service, admission) as client:
        client.send(request(1, b"held", "/t.T/Hold"))
        await service.started.wait()
        client.send(ask(3) + headers(5, of=block(QUICK)))
        await client.sync()
        client.send(frame(DATA, END_STREAM, 5, message(b"hello")))
        sentence = "Too many calls in flight: the limit is 1 (--max_inflight_calls)"
        assert (await client.answer(3)).status == ("8", sentence)
        assert (await client.answer(5)).status == ("8", sentence)
        service.release.set()
        await client.answer(1)
        client.send(ask(7))
        assert (await client.answer(7)).data == message(b"hello")
    assert shed == ["calls", "calls"]


@pytest.mark.parametrize("is_quick", [True, False])
async def test_bytes_over_the_limit_are_shed_with_the_same_words(service, is_quick):
    service.is_quick = is_quick
    shed = []
    async with quickly(service, Admission(10, 4, on_shed=shed.append)) as client:
        client.send(ask(1, b"hello") + ask(3, b"hell"))
        sentence = "Too many bytes in flight: 0 and 5 more exceed the limit of 4 (--max_inflight_bytes)"
        assert (await client.answer(1)).status == ("8", sentence)
        assert (await client.answer(3)).data == message(b"hell")
    assert shed == ["bytes"]


# Beside grpcio


BODIES = [b"", b"hello", b"x*5000", b"ab*100000", b"bad", b"bug", b"x" * 70_000 + b"*2"]


async def answered(port: int) -> list[object]:
    outcomes: list[object] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for body in BODIES * 2:
            try:
                outcomes.append(await channel.unary_unary(QUICK)(body, timeout=30))
            except grpc.aio.AioRpcError as error:
                outcomes.append((error.code(), error.details()))
    return outcomes


async def test_both_transports_and_both_ways_answer_alike(service):
    outcomes = []
    admission = Admission(100, 1 << 30)
    async with GrpcioServer(service.methods, {}, addresses=["127.0.0.1:0"], admission=admission) as server:
        outcomes.append(await answered(server.port))
    assert service.quick_bodies == []
    for service.is_quick in (True, False):
        async with serving(service, admission, quick_methods=service.quick_methods) as server:
            outcomes.append(await answered(server.port))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert service.quick_bodies == BODIES * 2
    assert (admission.calls, admission.bytes, admission.held) == (0, 0, 0)


KEY = ("x-api-key", "one")


async def test_only_those_with_a_token_are_answered(service):
    check = TokenCheck((Token(digest_of("one")),))
    async with quickly(service, authenticate=check) as client:
        client.send(ask(1, b"a", KEY) + ask(3, b"b") + ask(5, b"c", KEY) + ask(7, b"d", ("x-api-key", "two")))
        answers = [await client.answer(number) for number in (1, 3, 5, 7)]
    assert [answer.data for answer in answers] == [message(b"a"), b"", message(b"c"), b""]
    assert [answer.status[0] for answer in answers] == ["0", "16", "0", "16"]
    assert service.quick_bodies == [b"a", b"c"]


async def test_a_known_header_block_is_judged_anew_when_tokens_change(service):
    check = TokenCheck((Token(digest_of("one")),))
    async with (
        serving(service, quick_methods=service.quick_methods, authenticate=check) as server,
        connected(server) as client,
    ):
        for number in (1, 3, 5):
            client.send(ask(number, b"a", KEY))
            assert (await client.answer(number)).status[0] == "0"
        check.tokens = ()
        server.authenticate_anew()
        client.send(ask(7, b"b", KEY))
        assert (await client.answer(7)).status == ("16", "The token is not known")
    assert service.quick_bodies == [b"a"] * 3
