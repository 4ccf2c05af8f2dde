"""A streaming call ends at its deadline, whatever its method and its client do."""

from __future__ import annotations

import asyncio

import pytest

from tests.transports.http2.peer import SECONDS, block, connected, headers, message, serving


class Streams:
    """Methods that never end by themselves."""

    def __init__(self):
        self.ended = asyncio.Event()

    methods = {}  # noqa: RUF012

    @property
    def stream_methods(self):
        return {"/t.T/Wait": self.wait, "/t.T/Give": self.give}

    async def wait(self, requests, call):
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def give(self, requests, call):
        try:
            while True:
                yield bytes(50_000)
        finally:
            self.ended.set()


@pytest.fixture
async def streams():
    return Streams()


def begin(path, timeout):
    return headers(1, of=block(path, ("grpc-timeout", timeout)))


async def test_one_that_waits_is_ended_with_its_status(streams):
    async with serving(streams) as server, connected(server) as peer:
        peer.send(begin("/t.T/Wait", "50m"))
        answer = await peer.answer(1)
        assert answer.data == message(b"first")
        assert answer.status == ("4", "Deadline Exceeded")
        await asyncio.wait_for(streams.ended.wait(), SECONDS)


async def test_one_whose_client_does_not_read_is_ended(streams):
    async with serving(streams) as server, connected(server) as peer:
        peer.send(begin("/t.T/Give", "50m"))
        await asyncio.wait_for(streams.ended.wait(), SECONDS)
        (wire,) = server.wires
        (stream,) = wire.connection.streams.values()
        assert stream.unsent.end, "the status goes out once its client reads"


async def test_one_that_ends_in_time_keeps_no_timer(streams):
    async with serving(streams) as server, connected(server) as peer:
        peer.send(begin("/t.T/Wait", "1H"))
        await peer.until(0)
        peer.send(b"\0\0\4\3\0\0\0\0\1\0\0\0\x08")  # RST_STREAM, CANCEL
        await asyncio.wait_for(streams.ended.wait(), SECONDS)
        await peer.sync()
        (wire,) = server.wires
        assert not wire.connection.streams
        loop = asyncio.get_running_loop()
        timers = getattr(loop, "_scheduled", [])  # uvloop does not show its timers
        assert not [timer for timer in timers if not timer.cancelled() and timer.when() > loop.time() + 1000]
