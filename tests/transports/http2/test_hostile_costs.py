"""Peers whose few bytes would make much work or take much memory, and floods of frames that nobody answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pyserving.transports.admission import Admission
from pyserving.transports.http2 import Limits
from pyserving.transports.http2.errors import ErrorCode
from tests.transports.http2.peer import (
    ACK,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    PING,
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
LAST = END_HEADERS | END_STREAM
WIDE = b"\0\4" + integer((1 << 31) - 1) + b"\0\5" + integer(1 << 16)
"""As settings: every stream may be answered with as much as there is, in large frames."""


@pytest.fixture
async def service():
    return Service()


async def test_settings_that_go_on_and_on_end_the_connection(service):
    """Each would change the windows of all streams."""
    async with serving(service) as server, connected(server) as client:
        client.send(b"".join(request(n, b"", "/t.T/Hold") for n in range(1, 2001, 2)))
        await client.sync()
        client.send(frame(SETTINGS, 0, 0, (b"\0\4" + integer(1000)) * 10_000))
        assert await client.end() == Ended(0, CALM)


async def test_windows_of_many_streams_are_not_changed_again_and_again(service):
    async with serving(service) as server, connected(server) as client:
        client.send(b"".join(headers(n) for n in range(1, 2001, 2)))
        await client.sync()
        client.send(b"".join(frame(SETTINGS, 0, 0, b"\0\4" + integer(1000 + n % 2)) for n in range(1000)))
        assert await client.end() == Ended(0, CALM)


async def test_of_a_setting_that_comes_twice_the_last_counts(service):
    async with serving(service) as server, connected(server) as client:
        client.send(frame(SETTINGS, 0, 0, b"\0\4" + integer(0) + b"\0\4" + integer(1000)) + request(1, b"fine"))
        assert (await client.answer(1)).data == message(b"fine")


async def test_as_many_settings_as_there_are_may_come_at_once(service):
    async with serving(service) as server, connected(server) as client:
        known = b"".join(n.to_bytes(2, "big") + integer(0) for n in (1, 2, 3, 6, 8, 9))
        client.send(frame(SETTINGS, 0, 0, known * 5) + request(1, b"fine"))
        assert (await client.answer(1)).data == message(b"fine")


async def test_a_few_bytes_of_trailers_cannot_mean_megabytes(service):
    async with serving(service) as server, connected(server) as client:
        client.send(headers(1, of=block() + b"\x40\x01a\x7f\x81\x1e" + b"x" * 3968))
        client.send(headers(1, LAST, b"\xbe" * 60_000))  # each stands for the field of 4,000 bytes
        assert await client.end() == Ended(1, CALM)
        client.send(request(3, b"next"))
        assert (await client.answer(3)).data == message(b"next")


@pytest.mark.parametrize(
    "flood", [frame(PING, ACK, 0, bytes(8)), frame(SETTINGS, ACK, 0), frame(GOAWAY, 0, 0, bytes(8))]
)
async def test_a_flood_of_frames_without_an_answer_ends_the_connection_and_no_other(service, flood):
    limits = replace(Limits(), idle_frames_at_once=100, idle_frames_per_second=0.0)
    async with (
        serving(service, limits=limits) as server,
        connected(server) as client,
        connected(server) as other,
    ):
        client.send(flood * 200)
        assert await client.end() == Ended(0, CALM)
        other.send(request(1, b"unmoved"))
        assert (await other.answer(1)).data == message(b"unmoved")


@pytest.mark.parametrize("stream_id", [0, 1, 3])
async def test_a_flood_of_credit_costs_others_nothing(service, stream_id):
    """Honest clients may give credit byte by byte, so nothing but the window limits it."""
    async with serving(service) as server, connected(server) as client, connected(server) as other:
        client.send(request(1, b"", "/t.T/Hold") + request(3))
        client.send(frame(WINDOW_UPDATE, 0, stream_id, integer(1)) * 50_000)
        other.send(request(1, b"unmoved"))
        assert (await other.answer(1)).data == message(b"unmoved")
        client.send(request(5, b"and so am I"))
        assert (await client.answer(5)).data == message(b"and so am I")


async def test_small_answers_that_a_full_socket_does_not_take_are_counted(service):
    admission = Admission(2000, 3_000_000)
    limits = replace(Limits(), max_unsent=1 << 30)
    async with serving(service, admission, limits=limits) as server, connected(server, receive_bytes=4096) as client:
        await client.sync()
        client.reader._transport.pause_reading()
        client.send(frame(SETTINGS, 0, 0, WIDE) + frame(WINDOW_UPDATE, 0, 0, integer((1 << 31) - 65_536)))
        client.send(b"".join(request(n, b"50000", "/t.T/Give") for n in range(1, 601, 2)))
        (wire,) = server.wires
        while wire.connection.last_id < 599:  # noqa: ASYNC110  the server says nothing that could be waited for
            await asyncio.sleep(0)
        assert 1_000_000 < admission.held <= 3_000_000
        assert wire.connection.outbox.unsent < 500_000
        client.reader._transport.resume_reading()
        codes = [(await client.answer(n)).status[0] for n in range(1, 601, 2)]
        assert set(codes) == {"0", "8"}
        assert codes.count("0") > 40
    assert admission.held == 0
