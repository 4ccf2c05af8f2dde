from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from functools import partial

import grpc
import grpc.aio
import pytest

from pyserving import protos
from pyserving.errors import Internal
from pyserving.frontends.profiler_service import ProfilerService
from pyserving.transports.admission import Admission
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.transports.http2 import Http2Server
from pyserving.workers import Workers

ENDLESS = 60_000
DEFAULTS: dict[str, int] = {}


class FakeProfiler:
    """Takes traces of a given size; remembers what it was asked for, and whether each was wanted in the end."""

    def __init__(self) -> None:
        self.trace = trace(events=1)
        self.asked = []
        self.wanted = []
        self.error = None
        self.started = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def record(self, levels, delay_seconds, seconds, wait):
        self.asked.append((levels, delay_seconds, seconds))
        if self.error is not None:
            raise self.error
        self._loop.call_soon_threadsafe(self.started.set)
        self.wanted.append(wait(delay_seconds) and wait(seconds))
        return self.trace


def trace(events: int) -> bytes:
    space = protos.XSpace()
    line = space.planes.add(name="/host:CPU").lines.add(name="python")
    for number in range(events):
        line.events.add(metadata_id=number, offset_ps=10**12 * number, duration_ps=1)
    return space.SerializeToString()


class Profiled:
    """A server that offers the service alone, and stubs for it."""

    def __init__(self, service, profiler, channel) -> None:
        self.service = service
        self.profiler = profiler
        self._channel = channel

    def profile(self, duration_ms=0, **fields):
        options = fields.pop("opts", {})
        request = protos.ProfileRequest(opts={"duration_ms": duration_ms, **options}, **fields)
        return self._call("Profile", request, protos.ProfileResponse)

    def terminate(self, session_id):
        return self._call("Terminate", protos.TerminateRequest(session_id=session_id), protos.TerminateResponse)

    def monitor(self):
        return self._call("Monitor", protos.MonitorRequest(duration_ms=1), protos.MonitorResponse)

    def call(self, name, body):
        return self._channel.unary_unary(f"/tensorflow.ProfilerService/{name}")(body)

    def _call(self, name, request, response):
        path = f"/tensorflow.ProfilerService/{name}"
        return self._channel.unary_unary(path, type(request).SerializeToString, response.FromString)(request)


@asynccontextmanager
async def profiled(transport, max_bytes=1 << 30, **more):
    profiler = FakeProfiler()
    async with Workers("profile", 1) as workers:
        service = ProfilerService(partial(workers.submit, profiler.record), **more)
        async with (
            transport(
                dict(service.methods()), {}, addresses=["127.0.0.1:0"], admission=Admission(100, max_bytes)
            ) as server,
            grpc.aio.insecure_channel(
                f"127.0.0.1:{server.port}", options=[("grpc.max_receive_message_length", -1)]
            ) as channel,
        ):
            yield Profiled(service, profiler, channel)


@pytest.fixture(params=[GrpcioServer, Http2Server])
async def server(request):
    async with profiled(request.param) as server:
        yield server


async def failure(awaitable):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await awaitable
    return error.value.code(), error.value.details()


@pytest.mark.proves("rpc ProfilerService.Profile", "difference: `--enable_profiler`")
async def test_the_trace_comes_back_as_a_file_for_the_client_to_write(server):
    response = await server.profile(20, repository_root="/nowhere", session_id="run", host_name="host:1")
    assert [(tool.name, tool.data) for tool in response.tool_data] == [("xplane.pb", server.profiler.trace)]
    assert not response.empty_trace
    assert not response.HasField("xspace")
    assert server.profiler.asked == [(DEFAULTS, 0.0, 0.02)]


@pytest.mark.parametrize("events", [1, 20_000])
async def test_the_trace_comes_back_as_a_message_when_asked_for(server, events):
    server.profiler.trace = trace(events)
    response = await server.profile(emit_xspace=True)
    assert response.xspace.SerializeToString() == server.profiler.trace
    assert not response.empty_trace
    assert not response.tool_data


async def test_a_trace_without_events_is_said_to_be_empty(server):
    server.profiler.trace = trace(events=0)
    response = await server.profile()
    assert response.empty_trace
    assert not response.tool_data
    response = await server.profile(emit_xspace=True)
    assert response.empty_trace
    assert response.xspace.planes[0].name == "/host:CPU"


async def test_levels_are_taken_from_options_that_were_filled_in(server):
    levels = {"host_tracer_level": 3, "device_tracer_level": 0, "python_tracer_level": 1}
    await server.profile(opts=levels)
    await server.profile(opts=levels | {"version": 1})
    assert [asked[0] for asked in server.profiler.asked] == [DEFAULTS, levels]


async def test_it_begins_when_the_client_says(server):
    await server.profile(opts={"start_timestamp_ns": time.time_ns() - 10**9})
    waiting = server.profile(session_id="later", opts={"start_timestamp_ns": time.time_ns() + 50 * 10**9})
    await server.profiler.started.wait()
    await server.terminate("later")
    await waiting
    delays = [asked[1] for asked in server.profiler.asked]
    assert delays[0] == 0
    assert 10 < delays[1] <= 50


async def test_there_is_one_trace_at_a_time(server):
    first = server.profile(ENDLESS, session_id="first")
    await server.profiler.started.wait()
    assert await failure(server.profile()) == (grpc.StatusCode.INTERNAL, "Another profiling session active.")
    await server.terminate("first")
    assert (await first).tool_data


@pytest.mark.proves("rpc ProfilerService.Terminate")
async def test_a_trace_ends_early_when_its_session_is_terminated(server):
    first = server.profile(ENDLESS, session_id="first")
    await server.profiler.started.wait()
    await server.terminate("another")
    assert not first.done()
    await server.terminate("first")
    assert (await first).tool_data
    assert server.profiler.wanted == [True]
    await server.terminate("first")
    assert (await server.profile(session_id="first")).tool_data


async def test_a_trace_ends_with_its_call(server):
    first = server.profile(ENDLESS)
    await server.profiler.started.wait()
    first.cancel()
    while True:  # the server hears of it in its own time
        if (outcome := await outcome_of(server.profile())) is None:
            break
        assert outcome == "Another profiling session active."
    assert server.profiler.wanted == [False, True]


async def outcome_of(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.details()
    return None


async def test_a_trace_is_given_out_when_the_server_stops(server):
    first = server.profile(ENDLESS)
    await server.profiler.started.wait()
    server.service.close()
    assert (await first).tool_data


async def test_a_trace_that_failed_is_told_and_keeps_nobody_out(server):
    server.profiler.error = Internal("The trace cannot be had: no space")
    assert await failure(server.profile()) == (grpc.StatusCode.INTERNAL, "The trace cannot be had: no space")
    server.profiler.error = None
    assert (await server.profile()).tool_data


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"duration_ms": 60_001}, "duration_ms asks for 60001 ms; the most is 60000 ms"),
        ({"duration_ms": (1 << 64) - 1}, "duration_ms asks for 18446744073709551615 ms; the most is 60000 ms"),
        ({"start_timestamp_ns": (1 << 64) - 1}, "start_timestamp_ns asks for "),
    ],
)
async def test_a_trace_is_bounded_in_time(server, options, words):
    code, message = await failure(server.profile(opts=options))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith(words)
    assert server.profiler.asked == []


@pytest.mark.parametrize("transport", [GrpcioServer, Http2Server])
async def test_a_trace_that_there_is_no_memory_for_is_dropped(transport):
    async with profiled(transport, max_bytes=100_000) as server:
        server.profiler.trace = trace(events=20_000)
        assert (await failure(server.profile()))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        server.profiler.trace = trace(events=1)
        assert (await server.profile()).tool_data


@pytest.mark.parametrize("transport", [GrpcioServer, Http2Server])
async def test_a_trace_that_takes_too_much_memory_while_it_is_taken_ends_early(transport, caplog):
    sizes = itertools.count(step=100 << 20)
    async with profiled(transport, resident_bytes=lambda: next(sizes)) as server:
        assert (await server.profile(ENDLESS)).tool_data
    assert "early: the process has grown by 256 MiB" in caplog.text


@pytest.mark.proves("rpc ProfilerService.Monitor")
async def test_nothing_is_monitored_as_tensorflow_monitors_tpus_alone(server):
    assert await failure(server.monitor()) == (grpc.StatusCode.UNIMPLEMENTED, "unimplemented.")


@pytest.mark.proves(
    "rpc ProfilerService.StartContinuousProfiling",
    "rpc ProfilerService.StopContinuousProfiling",
    "rpc ProfilerService.GetSnapshot",
)
@pytest.mark.parametrize("name", ["StartContinuousProfiling", "StopContinuousProfiling", "GetSnapshot"])
async def test_nothing_is_traced_without_end(server, name):
    assert await failure(server.call(name, b"")) == (grpc.StatusCode.UNIMPLEMENTED, "")


async def test_bytes_that_are_no_request_are_refused(server):
    code, message = await failure(server.call("Profile", b"\xff"))
    assert code is grpc.StatusCode.INTERNAL
    assert "ProfileRequest" in message
