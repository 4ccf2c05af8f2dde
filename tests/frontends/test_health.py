from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from pyserving import protos
from pyserving.errors import InvalidArgument, NotFound, Unavailable
from pyserving.frontends.health import NOT_SERVING, SERVICE_NAMES, SERVICE_UNKNOWN, SERVING, Health
from pyserving.messages import CallContext
from pyserving.transports.admission import Admission
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.types import ManagerState, ServableId, ServableState

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"


@pytest.fixture
async def health():
    return Health()


def state(name, version, manager_state, health=None):
    return ServableState(ServableId(name, version), ManagerState[manager_state], health)


def request(name):
    return protos.HealthCheckRequest(service=name).SerializeToString()


def status(body):
    return protos.HealthCheckResponse.FromString(body).status


async def check(health, name):
    return status(await health.methods[CHECK](request(name), CallContext()))


async def bodies(*messages):
    for message in messages:
        yield message


def watch(health, name):
    return health.stream_methods[WATCH](bodies(request(name)), CallContext())


async def test_its_services_serve_between_ready_and_drain(health):
    for name in SERVICE_NAMES:
        assert await check(health, name) == NOT_SERVING
    health.ready()
    for name in SERVICE_NAMES:
        assert await check(health, name) == SERVING
    health.drain()
    for name in SERVICE_NAMES:
        assert await check(health, name) == NOT_SERVING


async def test_it_knows_the_names_of_the_stock_server(health):
    assert {"", "PredictionService", "ModelService"} <= set(SERVICE_NAMES)


@pytest.mark.proves("difference: Health")
async def test_a_model_serves_while_a_version_is_available(health):
    with pytest.raises(NotFound):
        await check(health, "m")
    health.on_state(state("m", 1, "LOADING", Unavailable("disk")))
    assert await check(health, "m") == NOT_SERVING
    health.on_state(state("m", 1, "AVAILABLE"))
    health.on_state(state("m", 2, "AVAILABLE"))
    health.on_state(state("m", 1, "UNLOADING"))
    assert await check(health, "m") == SERVING
    health.on_state(state("m", 2, "END"))
    assert await check(health, "m") == NOT_SERVING


async def test_a_model_cannot_speak_for_a_service(health):
    health.ready()
    health.on_state(state("ModelService", 1, "END"))
    assert await check(health, "ModelService") == SERVING


async def test_nothing_serves_any_more_once_it_drains(health):
    health.drain()
    health.ready()
    health.on_state(state("m", 1, "AVAILABLE"))
    assert await check(health, "") == NOT_SERVING
    assert await check(health, "m") == NOT_SERVING


async def test_it_refuses_bytes_that_are_no_request(health):
    with pytest.raises(InvalidArgument):
        await health.methods[CHECK](b"\xff", CallContext())


@pytest.mark.proves("rpc grpc.health.v1.Health.Watch")
async def test_a_watch_tells_changes_only(health):
    watching = watch(health, "m")
    assert status(await anext(watching)) == SERVICE_UNKNOWN
    change = asyncio.ensure_future(anext(watching))
    health.on_state(state("other", 1, "AVAILABLE"))
    await asyncio.sleep(0)
    assert not change.done()
    health.on_state(state("m", 1, "AVAILABLE"))
    assert status(await change) == SERVING
    change = asyncio.ensure_future(anext(watching))
    health.on_state(state("m", 2, "AVAILABLE"))
    await asyncio.sleep(0)
    assert not change.done()
    health.set("m", NOT_SERVING)
    assert status(await change) == NOT_SERVING
    await watching.aclose()


async def test_a_watch_ends_after_saying_that_the_server_drains(health):
    health.ready()
    watching = watch(health, "")
    assert status(await anext(watching)) == SERVING
    health.drain()
    assert [status(body) async for body in watching] == [NOT_SERVING]


async def test_a_watch_of_an_unknown_name_ends_with_the_server_too(health):
    watching = watch(health, "nobody")
    assert status(await anext(watching)) == SERVICE_UNKNOWN
    rest = asyncio.ensure_future(anext(watching, None))
    await asyncio.sleep(0)
    health.drain()
    assert await rest is None


async def test_a_watch_without_a_request_says_nothing(health):
    assert [body async for body in health.stream_methods[WATCH](bodies(), CallContext())] == []


async def test_a_watcher_that_goes_leaves_nothing_behind(health):
    watchings = [watch(health, name) for name in ("m", "m", "n")]
    for watching in watchings:
        await anext(watching)
    assert health.watchers == 3
    for watching in watchings:
        await watching.aclose()
    assert health.watchers == 0


@pytest.mark.proves("rpc grpc.health.v1.Health.Check", "rpc grpc.health.v1.Health.Watch", "difference: Health")
async def test_it_serves_a_real_client_through_a_drain(health):
    health.ready()
    async with (
        GrpcioServer(
            health.methods, health.stream_methods, addresses=["127.0.0.1:0"], admission=Admission(0, 0)
        ) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        assert status(await channel.unary_unary(CHECK)(request(""))) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary(CHECK)(request("nobody"))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        watching = channel.unary_stream(WATCH)(request(""))
        assert status(await watching.read()) == SERVING
        health.drain()
        await server.stop(30)
        assert status(await watching.read()) == NOT_SERVING
        assert await watching.read() is grpc.aio.EOF
        assert await watching.code() is grpc.StatusCode.OK


@pytest.mark.proves("rpc grpc.health.v1.Health.List")
async def test_list_gives_every_name_at_once(health):
    health.on_state(state("m", 1, "AVAILABLE"))
    body = await health.methods["/grpc.health.v1.Health/List"](b"", CallContext())
    statuses = protos.HealthListResponse.FromString(body).statuses
    assert {name: response.status for name, response in statuses.items()} == {
        **dict.fromkeys(SERVICE_NAMES, NOT_SERVING),
        "m": SERVING,
    }
