"""What both gRPC transports promise over TLS, to gRPC's own client."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio
import pytest

from pyserving.transports.acceptor import Door
from pyserving.transports.admission import Admission
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.transports.http2 import Http2Server
from pyserving.transports.tls import Tls, credentials_of
from tests.certificates import Authority, client_context, identity

SECONDS = 30.0
"""Generous; nothing waits this long when all is well."""


async def echo(body, call):
    return bytes(body)


@pytest.fixture(params=[GrpcioServer, Http2Server])
async def transport(request):
    return request.param


@pytest.fixture(scope="module")
def server_certificate(authority):
    return authority.issue("server")


@pytest.fixture(scope="module")
def client_certificate(authority):
    return authority.issue("client")


@pytest.fixture
async def tls(server_certificate):
    return Tls(credentials_of(identity(server_certificate)))


@pytest.fixture
async def mutual_tls(server_certificate, authority):
    return Tls(credentials_of(identity(server_certificate, authority)))


@asynccontextmanager
async def serving(transport, tls, address="127.0.0.1:0"):
    door = {"tls": tls} if transport is GrpcioServer else {"door": Door(tls=lambda: tls.credentials.h2)}
    admission = Admission(10_000, 1 << 30)
    async with transport({"/t.T/Echo": echo}, {}, addresses=[address], admission=admission, **door) as server:
        yield server


@asynccontextmanager
async def asking(transport, tls, authority, certificate=None):
    """A channel to a server of its own."""
    async with (
        serving(transport, tls) as server,
        channel_to(f"localhost:{server.port}", authority, certificate) as channel,
    ):
        yield channel


@asynccontextmanager
async def channel_to(address, authority, certificate=None):
    keys = (certificate.key, certificate.pem) if certificate is not None else ()
    credentials = grpc.ssl_channel_credentials(authority.pem, *keys)
    options = [
        ("grpc.use_local_subchannel_pool", 1),  # or channels would share a connection
        ("grpc.max_receive_message_length", -1),
        ("grpc.ssl_target_name_override", "localhost"),  # for unix sockets, which have no name
    ]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        yield channel


async def ask(channel, body=b"hello"):
    return await channel.unary_unary("/t.T/Echo")(body, timeout=SECONDS)


async def status(channel):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ask(channel)
    return error.value.code()


async def certificate_name(server, authority):
    """Of whoever answers on a new connection."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=client_context(authority), server_hostname="localhost"
    )
    name = writer.get_extra_info("peercert")["subject"][0][0][1]
    writer.transport.abort()
    return name


@pytest.mark.parametrize("size", [5, 100_000, 20_000_000])
async def test_a_client_that_trusts_the_authority_is_answered(transport, tls, authority, size):
    async with asking(transport, tls, authority) as channel:
        assert await ask(channel, bytes(size)) == bytes(size)


async def test_a_unix_socket_is_secured_too(transport, tls, authority, tmp_path):
    address = f"unix:{tmp_path}/s"
    async with serving(transport, tls, address), channel_to(address, authority) as channel:
        assert await ask(channel) == b"hello"


async def test_many_calls_on_many_connections(transport, tls, authority):
    async def visit(server, number):
        async with channel_to(f"localhost:{server.port}", authority) as channel:
            return await asyncio.gather(*(ask(channel, b"%d" % number) for _ in range(20)))

    async with serving(transport, tls) as server:
        answers = await asyncio.gather(*(visit(server, number) for number in range(10)))
    assert answers == [[b"%d" % number] * 20 for number in range(10)]


async def test_a_client_of_another_authority_is_not_answered(transport, tls, tmp_path):
    stranger = Authority(tmp_path)
    async with asking(transport, tls, stranger) as channel:
        assert await status(channel) is grpc.StatusCode.UNAVAILABLE


async def test_a_client_with_a_certificate_is_let_in(transport, mutual_tls, authority, client_certificate):
    async with asking(transport, mutual_tls, authority, client_certificate) as channel:
        assert await ask(channel) == b"hello"


async def test_a_client_without_a_certificate_is_refused(transport, mutual_tls, authority):
    async with asking(transport, mutual_tls, authority) as channel:
        assert await status(channel) is grpc.StatusCode.UNAVAILABLE


async def test_a_client_with_a_certificate_of_another_authority_is_refused(transport, mutual_tls, authority, tmp_path):
    forged = Authority(tmp_path).issue("client")
    async with asking(transport, mutual_tls, authority, forged) as channel:
        assert await status(channel) is grpc.StatusCode.UNAVAILABLE


async def test_a_plain_client_is_refused_and_harms_nobody(transport, tls, authority):
    async with serving(transport, tls) as server:
        async with grpc.aio.insecure_channel(f"localhost:{server.port}") as channel:
            assert await status(channel) is grpc.StatusCode.UNAVAILABLE
        async with channel_to(f"localhost:{server.port}", authority) as channel:
            assert await ask(channel) == b"hello"


async def test_a_secured_client_of_a_plain_port_is_refused_and_harms_nobody(transport, authority):
    admission = Admission(100, 1 << 30)
    async with transport({"/t.T/Echo": echo}, {}, addresses=["127.0.0.1:0"], admission=admission) as server:
        async with channel_to(f"localhost:{server.port}", authority) as channel:
            assert await status(channel) is grpc.StatusCode.UNAVAILABLE
        async with grpc.aio.insecure_channel(f"localhost:{server.port}") as channel:
            assert await ask(channel) == b"hello"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_a_client_of_tls_1_1_is_refused(transport, tls, authority):
    old = client_context(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(transport, tls) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=old, server_hostname="localhost")


async def test_new_connections_have_the_new_certificate_and_old_ones_go_on(transport, tls, authority):
    async with serving(transport, tls) as server, channel_to(f"localhost:{server.port}", authority) as channel:
        await ask(channel)
        assert await certificate_name(server, authority) == "server"
        tls.renew(credentials_of(identity(authority.issue("renewed"))))
        assert await certificate_name(server, authority) == "renewed"
        assert await certificate_name(server, authority) == "renewed"
        assert await ask(channel) == b"hello"


async def test_after_a_change_of_authority_only_its_clients_are_let_in(
    transport, mutual_tls, authority, server_certificate, client_certificate, tmp_path
):
    new = Authority(tmp_path)
    async with serving(transport, mutual_tls) as server:
        address = f"localhost:{server.port}"
        async with channel_to(address, authority, client_certificate) as channel:
            await ask(channel)
            mutual_tls.renew(credentials_of(identity(server_certificate, new)))
            assert await ask(channel) == b"hello"
        async with channel_to(address, authority, client_certificate) as channel:
            assert await status(channel) is grpc.StatusCode.UNAVAILABLE
        async with channel_to(address, authority, new.issue("client")) as channel:
            assert await ask(channel) == b"hello"


async def test_no_call_is_lost_while_certificates_change(transport, tls, authority):
    renewals = [credentials_of(identity(authority.issue(name))) for name in ("one", "two", "three", "four")]

    async def keep_asking(server):
        answers = []
        for _ in range(12):  # each on a connection of its own, in the midst of the changes
            async with channel_to(f"localhost:{server.port}", authority) as channel:
                answers += await asyncio.gather(*(ask(channel) for _ in range(5)))
        return answers

    async def keep_renewing():
        while True:
            for renewal in renewals:
                tls.renew(renewal)
                await asyncio.sleep(0)

    async with serving(transport, tls) as server:
        renewing = asyncio.ensure_future(keep_renewing())
        # grpcio's server may crash when certificates change between two handshakes at once: it may free what the other
        # is about to use (grpc/grpc, issue 36693). One at a time it does well.
        clients = 1 if transport is GrpcioServer else 4
        answers = await asyncio.gather(*(keep_asking(server) for _ in range(clients)))
        renewing.cancel()
    assert answers == [[b"hello"] * 60] * clients


async def test_half_open_handshakes_keep_nobody_waiting(transport, tls, authority):
    async with serving(transport, tls) as server:
        half_open = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(200)]
        for _, writer in half_open:
            writer.write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a greeting that announces more
        async with channel_to(f"localhost:{server.port}", authority) as channel:
            assert await ask(channel) == b"hello"
        for _, writer in half_open:
            writer.transport.abort()


async def test_a_client_that_does_not_ask_for_http2_is_refused(tls, authority):
    async with serving(Http2Server, tls) as server:
        for protocols in ((), ("http/1.1",)):
            context = client_context(authority, protocols=protocols)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=context, server_hostname="localhost"
            )
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), SECONDS) == b""
            writer.transport.abort()
            assert not server.wires
