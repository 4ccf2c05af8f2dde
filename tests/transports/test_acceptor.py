"""Taking connections in: so many, whatever the system has to say, and giving up those that never get anywhere."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from contextlib import asynccontextmanager

import pytest

from pyserving.transports import acceptor as module
from pyserving.transports.acceptor import Acceptor, Door
from pyserving.transports.tls import credentials_of
from tests.certificates import client_context, identity


class Greeter(asyncio.Protocol):
    """Says hello."""

    def __init__(self, host):
        self.host = host

    def connection_made(self, transport):
        self.transport = transport
        self.host.open.add(self)
        self.host.acceptor.has_opened(self)
        transport.write(b"hello")

    def connection_lost(self, error):
        self.host.open.discard(self)
        self.host.someone_left.set()


class Host:
    """A server whose connections are greeted, and what it has been told."""

    def __init__(self):
        self.open = set()
        self.someone_left = asyncio.Event()
        self.refused = 0
        self.failed_handshakes = 0

    def door(self, limit=100, tls=None):
        return Door(limit, tls, on_refused=self.refuse, on_failed_handshake=self.fail_handshake)

    def refuse(self):
        self.refused += 1

    def fail_handshake(self):
        self.failed_handshakes += 1


@pytest.fixture
async def host():
    return Host()


class Starved(socket.socket):
    """A listener of a process that has no descriptor left for a while."""

    left = 0
    asked = 0

    def accept(self):
        self.asked += 1
        if self.left > 0:
            self.left -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


@asynccontextmanager
async def accepting(host, door, timeout=10.0, listener=None):
    listener = listener or socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    port = listener.getsockname()[1]
    host.acceptor = acceptor = Acceptor("test", lambda: Greeter(host), host.open, door, timeout)
    acceptor.open([listener])
    try:
        yield port
    finally:
        acceptor.close()
        await acceptor.abandon_handshakes()
        for protocol in tuple(host.open):
            protocol.transport.abort()
        while host.open:
            host.someone_left.clear()
            await host.someone_left.wait()


@asynccontextmanager
async def visiting(port, **more):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **more)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def greeting(port, **more):
    """What the host says before it lets go of us; nothing if it does so at once."""
    async with visiting(port, **more) as (reader, _):
        try:
            return await asyncio.wait_for(reader.readexactly(5), 10)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""


async def test_visitors_are_let_in(host):
    async with accepting(host, host.door()) as port:
        assert await asyncio.gather(*(greeting(port) for _ in range(50))) == [b"hello"] * 50
    assert host.refused == 0


@pytest.mark.proves("difference: Connections")
async def test_one_too_many_is_refused_and_counted_until_another_leaves(host, caplog):
    async with accepting(host, host.door(limit=2)) as port:
        async with visiting(port) as (first, _), visiting(port) as (second, _):
            assert (await first.readexactly(5), await second.readexactly(5)) == (b"hello", b"hello")
            assert [await greeting(port) for _ in range(3)] == [b""] * 3
        while host.open:
            host.someone_left.clear()
            await host.someone_left.wait()
        assert await greeting(port) == b"hello"
    assert host.refused == 3
    assert caplog.messages == ["The test port: 2 connections are open (--max_connections); others are refused"]


async def test_a_process_out_of_descriptors_tries_again_after_a_while(host, caplog, monkeypatch):
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    listener = Starved()
    listener.left = 3
    async with accepting(host, host.door(), listener=listener) as port:
        assert await greeting(port) == b"hello"
    assert listener.asked < 10  # it does not ask again and again
    assert caplog.messages == [
        "The test port: cannot accept connections: Too many open files (ulimit -n bounds open files, --max_connections"
        " connections); trying every 0.05 s"
    ]


@pytest.mark.proves("difference: Connections")
async def test_a_handshake_that_does_not_go_on_is_given_up(host, authority):
    context = credentials_of(identity(authority.issue("server"))).http1
    door = host.door(tls=lambda: context)
    async with accepting(host, door, timeout=0.1) as port, visiting(port) as (reader, writer):
        writer.write(b"\x16\x03\x01")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1), 10)
    assert not host.open


async def test_half_open_handshakes_are_within_the_limit_and_end_with_the_server(host, authority):
    context = credentials_of(identity(authority.issue("server"))).http1
    door = host.door(limit=3, tls=lambda: context)
    async with accepting(host, door) as port, visiting(port), visiting(port), visiting(port):
        assert await greeting(port) == b""
    assert host.refused == 1


async def test_each_connection_is_secured_by_what_there_is_when_it_comes(host, authority):
    before, after = (credentials_of(identity(authority.issue(name))).http1 for name in ("before", "after"))
    contexts = [before, after]
    seen = []
    async with accepting(host, host.door(tls=lambda: contexts.pop(0))) as port:
        for _ in range(2):
            secured = client_context(authority)
            async with visiting(port, ssl=secured, server_hostname="localhost") as (reader, writer):
                assert await reader.readexactly(5) == b"hello"
                seen.append(writer.get_extra_info("peercert")["subject"][0][0][1])
    assert seen == ["before", "after"]


async def test_a_failed_handshake_is_counted_and_logged_once(host, authority, caplog):
    context = credentials_of(identity(authority.issue("server"), authority)).http1
    caplog.set_level(logging.INFO)
    async with accepting(host, host.door(tls=lambda: context)) as port:
        for _ in range(3):
            assert await greeting(port, ssl=client_context(authority), server_hostname="localhost") == b""
    assert host.failed_handshakes == 3
    assert caplog.messages == ["The test port: a TLS handshake failed: peer did not return a certificate"]
