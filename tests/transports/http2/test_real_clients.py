"""Clients as people have them: grpcio's, synchronous and asynchronous, with its health and reflection stubs."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from pyserving.frontends import reflection
from pyserving.frontends.health import Health
from pyserving.transports.admission import Admission
from tests.transports.http2.peer import Service, serving

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@pytest.fixture
async def service():
    return Service()


@pytest.fixture
async def server(service):
    async with serving(service) as server:
        yield server


@asynccontextmanager
async def channel_to(server, *options):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=[*UNLIMITED, *options]) as channel:
        yield channel


def unary(channel, name="Echo"):
    return channel.unary_unary(f"/t.T/{name}")


async def test_a_thousand_calls_at_once_on_one_channel(service, server):
    async with channel_to(server) as channel:
        bodies = [str(n).encode() for n in range(1000)]
        assert await asyncio.gather(*(unary(channel)(body, timeout=30) for body in bodies)) == bodies


async def test_a_thousand_calls_that_wait_at_once_on_one_channel(service, server):
    async with channel_to(server) as channel:
        calls = [asyncio.ensure_future(unary(channel, "Hold")(b"x")) for _ in range(1000)]
        while len(service.calls) < 1000:  # noqa: ASYNC110  the service has no event for the last
            await asyncio.sleep(0)
        service.release.set()
        assert await asyncio.gather(*calls) == [b"x"] * 1000


async def test_more_calls_than_streams_wait_for_their_turn(service, server):
    def ask():
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            futures = [unary(channel).future(b"x") for _ in range(3000)]
            return [future.result() for future in futures]

    assert await asyncio.to_thread(ask) == [b"x"] * 3000


async def test_deadlines_that_vary_are_each_their_own(service, server):
    async with channel_to(server) as channel:
        loop = asyncio.get_running_loop()
        for seconds in (5, 50, 7.5, 20, 5.01):
            now = loop.time()
            await unary(channel)(b"", timeout=seconds)
            assert service.calls[-1][1].deadline - now == pytest.approx(seconds, rel=0.1)


async def test_a_deadline_ends_the_call_on_both_sides(service, server):
    async with channel_to(server) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await unary(channel, "Hold")(b"", timeout=0.05)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await service.cancelled.wait()


@pytest.mark.parametrize(
    "compression", [grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression]
)
@pytest.mark.parametrize("size", [0, 1000, 300_000])
async def test_it_reads_what_clients_compress(server, compression, size):
    async with channel_to(server) as channel:
        body = b"0123456789" * (size // 10)
        assert await unary(channel)(body, compression=compression) == body


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 3])
async def test_messages_of_64_mb_go_both_ways(together):
    service, admission = Service(), Admission(10, 1 << 30)
    body = bytes(range(256)) * (1 << 18)
    async with serving(service, admission) as server, channel_to(server) as channel:
        answers = await asyncio.gather(*(unary(channel)(body) for _ in range(together)))
        assert all(answer == body for answer in answers)
    assert (admission.calls, admission.held) == (0, 0)


async def test_a_client_that_keeps_its_connection_alive_is_answered(server):
    pings = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_permit_without_calls", 1)]
    async with channel_to(server, *pings) as channel:
        assert await unary(channel)(b"1") == b"1"
        assert await unary(channel)(b"2") == b"2"


async def test_metadata_goes_in_and_errors_come_out_as_grpcio_knows_them(service, server):
    async with channel_to(server) as channel:
        await unary(channel)(b"", metadata=(("tenant", "a"), ("blob-bin", b"\x00\xff")))
        metadata = service.calls[-1][1].metadata
        assert (metadata["tenant"], metadata["blob-bin"]) == ("a", b"\x00\xff")
        assert metadata["user-agent"].startswith("grpc-python")


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_who_asks_for_health_has_not_much_to_say(compression):
    health = Health()
    health.ready()
    async with (
        serving(_Methods(health.methods, health.stream_methods)) as server,
        channel_to(server) as channel,
    ):
        for ask in (channel.unary_unary("/grpc.health.v1.Health/Check"), _first_of_watch(channel)):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await ask(bytes(65_537), compression=compression)
            assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await ask(b"") == b"\x08\x01"


def _first_of_watch(channel):
    return lambda body, **options: channel.unary_stream("/grpc.health.v1.Health/Watch")(body, **options).read()


async def test_health_is_checked_and_watched():
    health = Health()
    health.ready()
    service = Service()
    async with (
        serving(_Methods(service.methods | health.methods, health.stream_methods)) as server,
        channel_to(server) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="m")
        watch = stub.Watch(request)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        health.set("m", 1)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        assert health.watchers == 1
        health.drain()
        stopping = asyncio.create_task(server.stop(30))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await stopping
        assert health.watchers == 0


async def test_reflection_describes_the_services():
    methods = reflection.methods(["tensorflow.serving.PredictionService"])
    async with serving(_Methods({}, methods)) as server:

        def ask():
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                file = database.FindFileContainingSymbol("tensorflow.serving.PredictionService")
                return list(database.get_services()), file.package

        services, package = await asyncio.to_thread(ask)
    assert "tensorflow.serving.PredictionService" in services
    assert package == "tensorflow.serving"


async def test_clients_lose_no_call_that_was_sent_before_they_knew(service):
    """Two servers take turns on one port, as in a rollout; clients that may try again elsewhere see no error."""
    done, stopped = 0, asyncio.Event()
    arguments = [("grpc.so_reuseport", 1)]
    async with serving(service, channel_arguments=arguments) as first:

        async def load():
            nonlocal done
            async with channel_to(first) as channel:
                while not stopped.is_set():
                    assert await unary(channel)(b"x", wait_for_ready=True, timeout=20) == b"x"
                    done += 1

        clients = [asyncio.create_task(load()) for _ in range(4)]
        while done < 50:  # noqa: ASYNC110  progress of several tasks
            await asyncio.sleep(0)
        async with _another_on(first.port, service):
            await first.stop(30)
            seen = done
            while done < seen + 50:  # noqa: ASYNC110
                await asyncio.sleep(0)
            stopped.set()
            await asyncio.gather(*clients)


async def test_it_serves_on_ipv6():
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    service = Service()
    async with serving(service, addresses=["[::]:0"]) as server:
        for host in ("127.0.0.1", "[::1]"):
            async with grpc.aio.insecure_channel(f"{host}:{server.port}") as channel:
                assert await unary(channel)(b"x") == b"x"


class _Methods:
    def __init__(self, methods, stream_methods) -> None:
        self.methods = methods
        self.stream_methods = stream_methods


def _another_on(port, service):
    return serving(service, addresses=[f"127.0.0.1:{port}"], channel_arguments=[("grpc.so_reuseport", 1)])


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
