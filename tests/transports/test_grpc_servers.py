"""What both gRPC transports promise."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio
import pytest

from pyserving.errors import FailedPrecondition, InvalidArgument, NotFound
from pyserving.transports.admission import Admission
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.transports.http2 import Http2Server


class Service:
    """Methods whose calls a test can look at and hold."""

    def __init__(self, transport):
        self.transport = transport
        self.calls = []
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.stream_over = asyncio.Event()

    async def echo(self, body, call):
        self.calls.append((bytes(body), call))
        return bytes(body)

    async def hold(self, body, call):
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b"held " + body

    async def refuse(self, body, call):
        raise FailedPrecondition(body.decode())

    async def break_down(self, body, call):
        raise RuntimeError("a secret")

    async def double(self, requests, call):
        async for body in requests:
            if body == b"bad":
                raise NotFound("no such thing")
            yield body
            yield body

    async def for_ever(self, requests, call):
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            self.stream_over.set()

    @property
    def methods(self):
        return {
            "/t.T/Echo": self.echo,
            "/t.T/Hold": self.hold,
            "/t.T/Refuse": self.refuse,
            "/t.T/BreakDown": self.break_down,
            "/grpc.health.v1.Health/Check": self.echo,
        }

    @property
    def stream_methods(self):
        return {"/t.T/Double": self.double, "/t.T/ForEver": self.for_ever}


@pytest.fixture(params=[GrpcioServer, Http2Server])
async def service(request):
    return Service(request.param)


@asynccontextmanager
async def serving(service, addresses=("127.0.0.1:0",), admission=None, **more):
    async with service.transport(
        service.methods,
        service.stream_methods,
        addresses=addresses,
        admission=admission or Admission(100, 1 << 30),
        **more,
    ) as server:
        yield server


@pytest.fixture
async def server(service):
    async with serving(service) as server:
        yield server


@pytest.fixture
async def channel(server):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


def call(channel, name, body=b"", **more):
    return channel.unary_unary(f"/t.T/{name}")(body, wait_for_ready=False, **more)


async def call_on_and_on(channel):
    while True:
        await call(channel, "Echo")


async def failure(awaitable):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await awaitable
    return error.value.code(), error.value.details()


async def test_it_hands_bytes_in_and_bytes_out(channel):
    assert await call(channel, "Echo", b"\x00abc") == b"\x00abc"


async def test_it_serves_a_synchronous_client(server):
    def ask():
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            return channel.unary_unary("/t.T/Echo")(b"hello")

    assert await asyncio.to_thread(ask) == b"hello"


@pytest.mark.slow
async def test_it_takes_and_gives_messages_of_any_size(server):
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        body = bytes(40 << 20)
        assert await call(channel, "Echo", body) == body


async def test_it_passes_deadline_in_loop_time_and_metadata(channel, service):
    before = asyncio.get_running_loop().time()
    await call(channel, "Echo", timeout=50, metadata=(("tenant", "a"), ("blob-bin", b"\xff")))
    context = service.calls[0][1]
    assert context.deadline - before == pytest.approx(50, abs=5)  # gRPC rounds timeouts on the wire
    assert context.metadata["tenant"] == "a"
    assert context.metadata["blob-bin"] == b"\xff"


async def test_it_has_no_deadline_when_the_client_has_none(channel, service):
    await call(channel, "Echo")
    assert service.calls[0][1].deadline is None


async def test_it_answers_errors_with_code_and_message_and_logs_nothing(channel, caplog):
    assert await failure(call(channel, "Refuse", "größer".encode())) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "größer",
    )
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_it_truncates_long_messages(channel):
    _, details = await failure(call(channel, "Refuse", b"x" * 5000))
    assert details == "x" * 1024 + "...TRUNCATED"


async def test_it_keeps_unexpected_errors_to_its_log(channel, caplog):
    code, details = await failure(call(channel, "BreakDown"))
    assert code is grpc.StatusCode.INTERNAL
    assert "secret" not in details
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_it_answers_unknown_methods_with_an_empty_message(channel):
    assert await failure(call(channel, "Nothing")) == (grpc.StatusCode.UNIMPLEMENTED, "")
    stream = channel.stream_stream("/t.T/NoStream")()
    assert await failure(stream.read()) == (grpc.StatusCode.UNIMPLEMENTED, "")


async def test_it_streams_both_ways(channel):
    stream = channel.stream_stream("/t.T/Double")(iter([b"1", b"2"]))
    assert [answer async for answer in stream] == [b"1", b"1", b"2", b"2"]


async def test_it_ends_a_stream_with_the_methods_error(channel):
    stream = channel.stream_stream("/t.T/Double")(iter([b"1", b"bad"]))
    assert await stream.read() == b"1"
    assert await stream.read() == b"1"
    assert await failure(stream.read()) == (grpc.StatusCode.NOT_FOUND, "no such thing")


async def test_it_cancels_the_coroutine_when_the_client_gives_up(channel, service):
    waiting = call(channel, "Hold")
    await service.started.wait()
    waiting.cancel()
    await service.cancelled.wait()
    assert await call(channel, "Echo", b"still here") == b"still here"


async def test_it_closes_a_stream_when_the_client_goes_away(channel, service):
    stream = channel.unary_stream("/t.T/ForEver")(b"")
    assert await stream.read() == b"first"
    stream.cancel()
    await service.stream_over.wait()
    assert stream.cancelled()


@pytest.mark.proves("difference: `--grpc_max_threads`")
async def test_it_sheds_calls_over_the_limits_but_not_health_checks(service):
    admission = Admission(1, 100)
    async with (
        serving(service, admission=admission) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        assert (await failure(call(channel, "Echo", bytes(101))))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        held = asyncio.ensure_future(call(channel, "Hold"))
        await service.started.wait()
        code, details = await failure(call(channel, "Echo"))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "--max_inflight_calls" in details
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"h") == b"h"
        service.release.set()
        assert await held == b"held "
        assert await call(channel, "Echo", b"again") == b"again"
        assert (admission.calls, admission.bytes) == (0, 0)


async def test_it_answers_what_was_admitted_and_refuses_the_rest_when_stopped(service):
    async with (
        serving(service) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        held = asyncio.ensure_future(call(channel, "Hold", b"x"))
        await service.started.wait()
        stopping = asyncio.create_task(server.stop(30))
        assert (await failure(call_on_and_on(channel)))[0] is grpc.StatusCode.UNAVAILABLE
        service.release.set()
        assert await held == b"held x"
        await stopping
        assert (await failure(call(channel, "Echo")))[0] is grpc.StatusCode.UNAVAILABLE


async def test_clients_under_load_read_an_answer_or_a_refusal_when_it_stops(service):
    async with serving(service) as server:

        async def client():
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                await call_on_and_on(channel)

        clients = [asyncio.create_task(failure(client())) for _ in range(8)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            await call(channel, "Echo")
            await server.stop(30)
        allowed = {grpc.StatusCode.UNAVAILABLE}
        if service.transport is GrpcioServer:  # its answer to what it has received and not handed over
            allowed.add(grpc.StatusCode.CANCELLED)
        assert {code for code, _ in await asyncio.gather(*clients)} <= allowed


async def test_it_ends_streams_when_stopped(service):
    async with (
        serving(service) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stream = channel.unary_stream("/t.T/ForEver")(b"")
        assert await stream.read() == b"first"
        await server.stop(30)
        assert (await failure(stream.read()))[0] is grpc.StatusCode.UNAVAILABLE
        assert service.stream_over.is_set()


async def test_it_cancels_what_outlasts_the_grace_time(service):
    async with (
        serving(service) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        held = asyncio.ensure_future(call(channel, "Hold"))
        await service.started.wait()
        await server.stop(0.01)
        await service.cancelled.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await held


async def test_it_names_a_port_that_is_taken(service):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InvalidArgument, match=f"Failed to BuildAndStart gRPC server: cannot listen on {address}"):
            async with serving(service, addresses=[address]):
                pass


@pytest.mark.proves("difference: A port is taken")
async def test_it_does_not_share_a_port_with_another_of_its_kind(service):
    async with serving(service) as first:
        with pytest.raises(InvalidArgument, match="Failed to BuildAndStart gRPC server"):
            async with serving(service, addresses=[f"127.0.0.1:{first.port}"]):
                pass


async def test_it_gives_back_the_ports_it_had_when_another_is_taken(service):
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        with pytest.raises(InvalidArgument):
            async with serving(service, addresses=[address, f"127.0.0.1:{taken.getsockname()[1]}"]):
                pass
        async with serving(service, addresses=[address]) as server:
            assert server.ports == [int(address.rpartition(":")[2])]


async def test_channel_arguments_win_over_its_own(service):
    arguments = [("grpc.max_receive_message_length", 10), ("grpc.lb_policy_name", "grpclb"), ("no.such.key", 1)]
    async with (
        serving(service, channel_arguments=arguments) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        assert (await failure(call(channel, "Echo", bytes(11))))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await call(channel, "Echo", b"short") == b"short"


async def test_it_serves_a_unix_socket_states_its_mode_and_removes_it(service, tmp_path, caplog):
    path = tmp_path / "s"
    with caplog.at_level(logging.INFO):
        async with (
            serving(service, addresses=["127.0.0.1:0", f"unix:{path}"]) as server,
            grpc.aio.insecure_channel(f"unix:{path}") as channel,
        ):
            assert await call(channel, "Echo", b"by file") == b"by file"
            mode = path.stat().st_mode & 0o777
            assert f"The socket {path} has mode {mode:04o}" in caplog.text
            assert len(server.ports) == 1
    assert not path.exists()


async def test_it_takes_the_place_of_a_stale_socket_file(service, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(service, addresses=[f"unix:{path}"]), grpc.aio.insecure_channel(f"unix:{path}") as channel:
        assert await call(channel, "Echo", b"mine") == b"mine"


async def test_it_leaves_another_servers_socket_alone(service, tmp_path):
    address = f"unix:{tmp_path / 's'}"
    async with serving(service, addresses=[address]):
        with pytest.raises(InvalidArgument, match=f"another server listens on the socket {tmp_path / 's'}"):
            async with serving(service, addresses=[address]):
                pass
        async with grpc.aio.insecure_channel(address) as channel:
            assert await call(channel, "Echo", b"first") == b"first"


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call_a_path_that_is_not_text(port):
    """A request whose :path holds bytes that are not UTF-8; returns when the server has failed it."""
    headers = b"\x83\x86" + header(b":path", b"/\xff\xfe/x") + header(b":authority", b"a")
    headers += header(b"te", b"trailers") + header(b"content-type", b"application/grpc")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        client.sendall(frame(1, 4, 1, headers) + frame(0, 1, 1, bytes(5)))
        received = b""
        while b"grpc-status" not in received:
            received += client.recv(4096)


async def answered_in_the_end(channel):
    """What Echo answers; a call that meets grpcio's server while it goes and comes again is sent once more."""
    for _ in range(20):
        with suppress(grpc.aio.AioRpcError):
            return await channel.unary_unary("/t.T/Echo")(b"up", wait_for_ready=True, timeout=5)
    return None


async def test_it_survives_a_method_path_that_is_not_text(service, tmp_path):
    addresses = ["127.0.0.1:0", f"unix:{tmp_path / 's'}"]
    async with (
        serving(service, addresses=addresses) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        grpc.aio.insecure_channel(f"unix:{tmp_path / 's'}") as other,
    ):
        held = asyncio.ensure_future(call(channel, "Hold", b"x"))
        await service.started.wait()
        await asyncio.to_thread(call_a_path_that_is_not_text, server.port)
        for each in (channel, other):
            assert await answered_in_the_end(each) == b"up"
        service.release.set()
        assert await held == b"held x"
