"""Peers that keep the letter of the protocol and mean harm: each is held to a limit, and no other client feels it."""

from __future__ import annotations

import asyncio
import gzip
import random
from dataclasses import replace

import pytest

from pyserving.transports.admission import Admission
from pyserving.transports.http2 import Limits
from pyserving.transports.http2.errors import ErrorCode
from tests.clock import Clock
from tests.transports.http2.peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SECONDS,
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

CALM = ErrorCode.ENHANCE_YOUR_CALM
STRICT = Limits(
    idle_frames_at_once=100,
    idle_frames_per_second=0.0,
    resets_at_once=100,
    resets_per_second=0.0,
    max_header_list=1 << 12,
)


@pytest.fixture
async def service():
    return Service()


FLOODS = {
    "PING": [frame(PING, 0, 0, bytes(8))] * 200,
    "SETTINGS": [frame(SETTINGS, 0, 0)] * 200,
    "PRIORITY": [frame(PRIORITY, 0, 1, bytes(5))] * 200,
    "unknown frames": [frame(0x42, 0, 0)] * 200,
    "empty DATA": [headers(1)] + [frame(DATA, 0, 1)] * 200,
    "padding instead of DATA": [headers(1)] + [frame(DATA, 8, 1, b"\0")] * 200,
    "rapid reset": [request(n, b"", "/t.T/Hold") + frame(RST_STREAM, 0, n, integer(8)) for n in range(1, 401, 2)],
    "resets that the server is made to send": [
        request(n, b"", "/t.T/Hold") + frame(WINDOW_UPDATE, 0, n, integer(0)) for n in range(1, 401, 2)
    ],
    "malformed requests": [headers(n, of=b"\x83") for n in range(1, 401, 2)],
    "empty CONTINUATION": [headers(1, 0, block())] + [frame(CONTINUATION, 0, 1)] * 200,
    "CONTINUATION without end": [headers(1, 0, block())] + [frame(CONTINUATION, 0, 1, bytes(10_000))] * 10,
    "a HEADERS frame without end": [frame(HEADERS, 0, 1, bytes(70_000))],
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_ends_the_connection_and_no_other(service, flood):
    async with serving(service, limits=STRICT) as server, connected(server) as client, connected(server) as other:
        client.send(b"".join(FLOODS[flood]))
        end = await client.end()
        while end.stream_id:
            end = await client.end()
        assert end == Ended(0, CALM)
        other.send(request(1, b"unmoved"))
        assert (await other.answer(1)).data == message(b"unmoved")


async def test_a_rapid_reset_leaves_nothing_behind(service):
    admission = Admission(1000, 1 << 20)
    async with serving(service, admission) as server, connected(server) as client:
        for n in range(1, 1001, 2):
            client.send(request(n, b"", "/t.T/Hold") + frame(RST_STREAM, 0, n, integer(8)))
        client.send(request(1001))
        await client.answer(1001)
    assert (admission.calls, admission.bytes, admission.held) == (0, 0, 0)


async def test_calls_given_up_at_their_deadline_are_no_attack(service):
    due = ("grpc-timeout", "40m")  # within the margin of a clock that began earlier
    async with serving(service, limits=STRICT) as server, connected(server) as client:
        for n in range(1, 401, 2):
            client.send(request(n, b"", "/t.T/Hold", due) + frame(RST_STREAM, 0, n, integer(8)))
        client.send(request(401))
        assert (await client.answer(401)).status == ("0", "")


async def test_what_was_on_its_way_to_thousands_of_calls_that_are_refused_is_no_error(service):
    numbers = range(1, 6001, 2)
    limits = replace(Limits(), max_concurrent_streams=3000)
    async with serving(service, limits=limits) as server, connected(server) as client:
        client.send(b"".join(headers(n, of=block("/t.T/Nowhere")) for n in numbers))
        await client.answer(numbers[-1])
        client.send(b"".join(frame(DATA, END_STREAM, n, message(b"late")) for n in numbers) + request(6001))
        assert (await client.answer(6001)).status == ("0", "")


async def test_calls_given_up_after_some_waiting_are_no_attack(service):
    numbers = range(1, 401, 2)
    async with serving(service, limits=STRICT) as server, connected(server) as client:
        client.send(b"".join(request(n, b"", "/t.T/Hold") for n in numbers) + request(401))
        await client.answer(401)
        Clock(asyncio.get_running_loop()).advance(2.0)
        client.send(b"".join(frame(RST_STREAM, 0, n, integer(8)) for n in numbers) + request(403))
        assert (await client.answer(403)).status == ("0", "")


async def test_resets_that_cross_their_answers_are_no_attack(service):
    async with serving(service, limits=STRICT) as server, connected(server) as client:
        for n in range(1, 401, 2):
            client.send(request(n))
            await client.answer(n)
            client.send(frame(RST_STREAM, 0, n, integer(8)))
        client.send(request(401))
        assert (await client.answer(401)).status == ("0", "")


async def test_streams_over_the_limit_are_refused_so_that_they_may_be_sent_again(service):
    async with (
        serving(service, limits=replace(Limits(), max_concurrent_streams=2)) as server,
        connected(server) as client,
    ):
        client.send(b"".join(request(n, b"", "/t.T/Hold") for n in (1, 3, 5)))
        assert await client.end() == Ended(5, ErrorCode.REFUSED_STREAM)
        service.release.set()
        await client.answer(1)
        client.send(request(7))
        assert (await client.answer(7)).status == ("0", "")


async def test_metadata_over_the_limit_is_refused_and_the_connection_goes_on(service):
    async with serving(service, limits=STRICT) as server, connected(server) as client:
        client.send(request(1, b"", "/t.T/Echo", ("long", "x" * 5000)))
        assert (await client.answer(1)).status[0] == "8"
        client.send(request(3, b"next"))
        assert (await client.answer(3)).data == message(b"next")


async def test_a_few_bytes_of_header_block_cannot_mean_megabytes(service):
    async with serving(service) as server, connected(server) as client:
        client.send(headers(1, of=block() + b"\x40\x01a\x7f\x81\x1e" + b"x" * 3968))
        client.send(headers(3, of=block() + b"\xbe" * 16_000))  # each stands for the field of 4,000 bytes
        assert (await client.answer(3)).status[0] == "8"


async def test_a_message_over_the_limit_is_refused_when_it_is_announced(service):
    arguments = [("grpc.max_receive_message_length", 1000)]
    async with serving(service, channel_arguments=arguments) as server, connected(server) as client:
        client.send(headers(1) + frame(DATA, 0, 1, b"\0" + integer(1001)))
        status = (await client.answer(1)).status
        assert status == ("8", "SERVER: Received message larger than max (1001 vs. 1000)")


async def test_an_answer_over_the_limit_is_not_sent(service):
    arguments = [("grpc.max_send_message_length", 1000)]
    async with serving(service, channel_arguments=arguments) as server, connected(server) as client:
        client.send(request(1, b"1001", "/t.T/Give") + request(3, b"1000", "/t.T/Give"))
        assert (await client.answer(1)).status == ("8", "Sent message larger than max (1001 vs. 1000)")
        assert (await client.answer(3)).data == message(bytes(1000))


async def test_bodies_that_are_not_complete_are_counted_until_they_are_given_up(service):
    admission = Admission(100, 50_000)
    async with serving(service, admission) as server, connected(server) as client:
        claim = b"\0\xff\xff\xff\xff"
        client.send(b"".join(headers(n) + frame(DATA, 0, n, claim + bytes(8000)) for n in (1, 3, 5, 7)))
        assert "Too many bytes in flight" in (await client.answer(7)).status[1]
        assert admission.held == 3 << 14
        client.send(frame(RST_STREAM, 0, 1, integer(8)))
        await client.sync()
        assert admission.held == 2 << 14
    assert admission.held == 0


async def test_a_few_bytes_of_many_large_claims_leave_room_for_others(service):
    admission = Admission(2000, 64 << 20)
    async with serving(service, admission) as server, connected(server) as client, connected(server) as other:
        claim = b"\0" + integer(1 << 20) + b"x"
        client.send(b"".join(headers(n) + frame(DATA, 0, n, claim) for n in range(1, 2001, 2)))
        await client.sync()
        other.send(frame(WINDOW_UPDATE, 0, 0, integer(4 << 20)) + frame(SETTINGS, 0, 0, b"\0\4" + integer(4 << 20)))
        half, rest = message(bytes(1 << 20))[: 1 << 19], message(bytes(1 << 20))[1 << 19 :]
        other.send(headers(1) + frame(DATA, 0, 1, half) + frame(DATA, END_STREAM, 1, rest))
        answer = await other.answer(1)
        assert (answer.status, len(answer.data)) == (("0", ""), (1 << 20) + 5)


async def test_one_connection_cannot_hold_all_of_the_memory(service):
    limits = replace(Limits(), max_held=40_000)
    async with serving(service, limits=limits) as server, connected(server) as client, connected(server) as other:
        claim = frame(DATA, 0, 1, b"\0\xff\xff\xff\xff" + bytes(8000))
        for n in (1, 3, 5):
            client.send(headers(n) + claim.replace(frame(DATA, 0, 1)[5:], frame(DATA, 0, n)[5:], 1))
        assert (await client.answer(5)).status[0] == "8"
        other.send(request(1, bytes(30_000)))
        assert len((await other.answer(1)).data) == 30_005


async def test_a_bomb_of_compressed_zeros_is_stopped(service):
    admission = Admission(100, 4 << 20)
    async with serving(service, admission) as server, connected(server) as client:
        bomb = gzip.compress(bytes(64 << 20))
        client.send(headers(1, of=block("/t.T/Echo", ("grpc-encoding", "gzip"))))
        client.send(frame(DATA, END_STREAM, 1, b"\1" + message(bomb)[1:]))
        assert (await client.answer(1)).status[0] == "8"
        await client.sync()
        assert admission.held == 0
    assert not service.calls


async def test_answers_that_nobody_reads_are_counted(service):
    admission = Admission(100, 250_000)
    async with serving(service, admission) as server, connected(server) as client:
        for n in (1, 3, 5):
            client.send(request(n, b"100000", "/t.T/Give"))
        status = (await client.answer(5)).status
        assert status[0] == "8"
        assert admission.held == 200_000


async def test_a_peer_that_reads_nothing_is_left(service):
    limits = replace(Limits(), stall_timeout=0.05)
    async with serving(service, limits=limits) as server, connected(server) as client:
        client.send(request(1, b"100000", "/t.T/Give"))  # and never a WINDOW_UPDATE
        while await client.frame() is not None:
            pass
    assert not server.wires


@pytest.mark.parametrize("shut", [0, 1])
async def test_an_answer_that_is_not_taken_is_given_up_however_lively_its_peer_is(service, shut):
    """By the window of its stream or of the connection: PINGs are answered all the time."""
    limits = replace(Limits(), stall_timeout=0.05, idle_frames_at_once=1e9)
    admission = Admission(100, 1 << 20)
    async with serving(service, admission, limits=limits) as server, connected(server) as client:
        client.send(request(1, b"100000", "/t.T/Give") + frame(WINDOW_UPDATE, 0, 1 - shut, integer(1 << 20)))
        deadline = asyncio.get_running_loop().time() + SECONDS
        while (got := await client.frame()) is not None and got.kind != RST_STREAM:
            assert asyncio.get_running_loop().time() < deadline
            if got.kind in (DATA, PING):
                client.send(frame(PING, 0, 0, bytes(8)))
        assert got == (RST_STREAM, 0, 1, integer(ErrorCode.CANCEL))
        assert admission.held == 0
        client.send(request(3, b"", "/t.T/Nowhere"))
        assert (await client.answer(3)).status[0] == "12"


async def test_a_peer_that_reads_nothing_is_not_read_from(service):
    limits = replace(Limits(), idle_frames_at_once=10**9, max_unsent=1 << 16)
    async with serving(service, limits=limits) as server, connected(server, receive_bytes=4096) as client:
        client.reader._transport.pause_reading()
        pings = frame(PING, 0, 0, bytes(8)) * 10_000
        written = 0
        while client.writer.transport.get_write_buffer_size() < 1 << 20:
            client.send(pings)
            written += len(pings)
            await asyncio.sleep(0)
            assert written < 64 << 20
        (wire,) = server.wires
        assert wire.connection.outbox.unsent < 1 << 20
        client.reader._transport.resume_reading()
        client.send(request(1, b"in the end"))
        await client.reader.readuntil(message(b"in the end"))


async def test_a_request_that_stands_still_is_ended_and_others_go_on(service):
    limits = replace(Limits(), stall_timeout=0.05)
    async with serving(service, limits=limits) as server, connected(server) as client:
        client.send(headers(1) + frame(DATA, 0, 1, message(b"hello")[:7]))
        assert (await client.answer(1)).status[0] == "10"
        client.send(request(3, b"next"))
        assert (await client.answer(3)).data == message(b"next")


@pytest.mark.parametrize(
    "started", [b"\0\0", headers(1)[:-3], headers(1, 0), headers(1) + frame(DATA, 0, 1, b"abc")[:-1]]
)
async def test_a_frame_that_stands_still_ends_the_connection(service, started):
    limits = replace(Limits(), stall_timeout=0.05)
    async with serving(service, limits=limits) as server, connected(server) as client:
        client.send(started)
        while (last := await client.frame()) is not None:
            assert last.kind != DATA
    assert not server.wires


@pytest.mark.parametrize("said", [b"", PREFACE[:10], PREFACE])
async def test_who_does_not_greet_is_shown_out(service, said):
    limits = replace(Limits(), handshake_timeout=0.05)
    async with serving(service, limits=limits) as server, connected(server, greets=False) as client:
        client.send(said)
        while await client.frame() is not None:
            pass
    assert not server.wires


async def test_a_peer_that_does_not_take_its_goodbye_is_left(service):
    limits = replace(Limits(), linger=0.05)
    async with serving(service, limits=limits) as server, connected(server) as client:
        client.send(frame(PING, 0, 1, bytes(8)))
        assert await client.end() == Ended(0, ErrorCode.PROTOCOL_ERROR)
        (wire,) = server.wires
        client.send(bytes(100_000))  # is read, and thrown away
        await wire.connection.closed


@pytest.mark.parametrize("seed", range(20))
async def test_noise_ends_its_connection_at_worst(service, seed):
    """Frames of right and wrong kinds, sizes and streams, in an order of chance."""
    chance = random.Random(seed)
    async with serving(service) as server, connected(server) as client, connected(server) as other:
        for _ in range(300):
            kind, payload = chance.randrange(11), chance.randbytes(chance.choice([0, 1, 4, 5, 6, 8, 8, 30]))
            if kind == HEADERS:
                payload = block(chance.choice(["/t.T/Echo", "/t.T/Hold", "/t.T/Double"]))
            if kind == DATA and chance.random() < 0.7:
                payload = message(payload)
            flags = chance.choice([0, ACK, END_HEADERS, END_HEADERS, END_HEADERS | END_STREAM, chance.randrange(256)])
            client.send(frame(kind, flags, chance.choice([0, 1, 3, 5, 7, 9, 11]), payload))
        other.send(request(1, b"unmoved"))
        assert (await other.answer(1)).data == message(b"unmoved")
        assert len(server.wires) <= 2
