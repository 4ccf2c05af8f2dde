"""Calls that must show a token, over both gRPC transports, asked by gRPC's own client."""

from __future__ import annotations

from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from pyserving.transports.admission import Admission
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.transports.http2 import Http2Server
from pyserving.transports.tokens import Token, TokenCheck, asks_for_health, digest_of

ECHO = "/t.T/Echo"
TOKEN = (("authorization", "Bearer one"),)


class Service:
    def __init__(self):
        self.bodies = []
        self.seen_metadata = []

    async def echo(self, body, call):
        self.bodies.append(bytes(body))
        self.seen_metadata.append(call.metadata)
        return bytes(body)

    async def double(self, requests, call):
        async for body in requests:
            yield body
            yield body


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def check():
    return TokenCheck((Token(digest_of("one")), Token(digest_of("two"))), exempt=[asks_for_health])


@pytest.fixture(params=[GrpcioServer, Http2Server])
async def server(request, service, check):
    async with request.param(
        {ECHO: service.echo, "/grpc.health.v1.Health/Check": service.echo},
        {"/t.T/Double": service.double},
        addresses=["127.0.0.1:0"],
        admission=Admission(100, 1 << 30),
        authenticate=check,
    ) as server:
        yield server


@asynccontextmanager
async def connected(server):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture
async def channel(server):
    async with connected(server) as channel:
        yield channel


async def refusal(awaitable):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await awaitable
    return error.value.code(), error.value.details()


def echo(channel, body=b"x", metadata=(), path=ECHO):
    return channel.unary_unary(path)(body, metadata=metadata, timeout=30)


async def test_a_call_with_a_token_is_answered(channel):
    assert await echo(channel, b"a", TOKEN) == b"a"
    assert await echo(channel, b"b", (("x-api-key", "two"),)) == b"b"
    doubled = channel.stream_stream("/t.T/Double")(iter([b"c"]), metadata=TOKEN)
    assert [answer async for answer in doubled] == [b"c", b"c"]


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ((), "A token is needed: authorization: Bearer TOKEN, or x-api-key: TOKEN"),
        ((("authorization", "Bearer three"),), "The token is not known"),
        ((("x-api-key", "three"),), "The token is not known"),
        ((*TOKEN, ("authorization", "Bearer three")), "The token is not known"),
    ],
)
@pytest.mark.parametrize("path", [ECHO, "/t.T/Nothing"])
async def test_one_without_is_refused_and_never_run(channel, service, metadata, why, path):
    for _ in range(3):  # the last of them in header blocks that came before
        assert await refusal(echo(channel, b"x", metadata, path)) == (grpc.StatusCode.UNAUTHENTICATED, why)
    assert service.bodies == []


async def test_large_requests_and_streams_are_refused(channel, service):
    code, _ = await refusal(echo(channel, bytes(2 << 20)))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    code, _ = await refusal(channel.stream_stream("/t.T/Double")().read())
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert await echo(channel, b"after", TOKEN) == b"after"


async def test_one_call_with_a_token_lets_in_no_other(channel):
    assert await echo(channel, metadata=TOKEN) == b"x"
    assert (await refusal(echo(channel)))[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_health_is_exempt(channel):
    assert await echo(channel, path="/grpc.health.v1.Health/Check") == b"x"


async def test_a_token_that_is_taken_away_lets_in_nobody_on_connections_that_stand(server, channel, check):
    for _ in range(3):
        assert await echo(channel, metadata=TOKEN) == b"x"
    async with connected(server) as other:
        assert await echo(other, metadata=TOKEN) == b"x"
        check.tokens = (Token(digest_of("two")),)
        if isinstance(server, Http2Server):
            server.authenticate_anew()
        for connection in (channel, other):
            assert (await refusal(echo(connection, metadata=TOKEN)))[0] is grpc.StatusCode.UNAUTHENTICATED
            assert await echo(connection, metadata=(("x-api-key", "two"),)) == b"x"
