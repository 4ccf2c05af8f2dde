"""What is particular to HTTP/2 over TLS: the last words of a connection, and clients that are slow or silent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from pyserving.transports.acceptor import Door
from pyserving.transports.http2.errors import ErrorCode
from pyserving.transports.http2.limits import Limits
from pyserving.transports.tls import credentials_of
from tests.certificates import client_context, identity
from tests.transports.http2.peer import SECONDS, Ended, Peer, Service, frame, message, request, serving


@pytest.fixture
async def service():
    return Service()


@asynccontextmanager
async def serving_securely(service, authority, **more):
    credentials = credentials_of(identity(authority.issue("server")))
    async with serving(service, door=Door(tls=lambda: credentials.h2), **more) as server:
        yield server


@asynccontextmanager
async def connected(server, authority):
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=client_context(authority), server_hostname="localhost", limit=1 << 26
    )
    peer = Peer(reader, writer)
    peer.greet()
    try:
        yield peer
    finally:
        writer.transport.abort()


async def test_a_call_is_answered(service, authority):
    async with serving_securely(service, authority) as server, connected(server, authority) as peer:
        peer.send(request(1, b"hello"))
        assert (await peer.answer(1)).data == message(b"hello")


async def test_a_peer_that_breaks_the_protocol_reads_why(service, authority):
    async with serving_securely(service, authority) as server, connected(server, authority) as peer:
        peer.send(frame(0, 0, 0, b"DATA on no stream") + bytes(1 << 20))
        assert await peer.end() == Ended(0, ErrorCode.PROTOCOL_ERROR)


async def test_a_peer_that_breaks_the_protocol_and_stays_is_let_go_of(service, authority):
    limits = Limits(linger=0.1)
    async with serving_securely(service, authority, limits=limits) as server, connected(server, authority) as peer:
        peer.send(frame(0, 0, 0, b"DATA on no stream"))
        await peer.end()
        assert await peer.frame() is None


async def test_a_peer_that_says_nothing_after_its_handshake_is_let_go_of(service, authority):
    async with serving_securely(service, authority, limits=Limits(handshake_timeout=0.2)) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=client_context(authority), server_hostname="localhost"
        )
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1 << 20), SECONDS)
        writer.transport.abort()


async def test_a_server_that_stops_answers_first(service, authority):
    async with serving_securely(service, authority) as server, connected(server, authority) as peer:
        peer.send(request(1, b"hello", "/t.T/Hold"))
        await service.started.wait()
        stopping = asyncio.ensure_future(server.stop(SECONDS))
        await asyncio.sleep(0)
        service.release.set()
        assert (await peer.answer(1)).data == message(b"hello")
        peer.writer.close()
        await asyncio.wait_for(stopping, SECONDS)


async def test_a_server_that_stops_does_not_wait_for_handshakes(service, authority):
    async with serving_securely(service, authority) as server:
        half_open = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
        await asyncio.wait_for(server.stop(0.0), SECONDS)
        for reader, writer in half_open:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await asyncio.wait_for(reader.readexactly(1), SECONDS)
            writer.close()


async def test_one_connection_too_many_is_closed(service):
    async with serving(service, door=Door(1)) as server:
        first, second = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        peer = Peer(*first)
        peer.greet()
        peer.send(request(1, b"hello"))
        assert (await peer.answer(1)).data == message(b"hello")
        assert await asyncio.wait_for(second[0].read(), SECONDS) == b""
        first[1].close()
        second[1].close()
