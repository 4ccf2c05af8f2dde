"""A server that is traced while it answers, by TensorFlow's own client: the one behind TensorBoard's profile page."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from pyserving import protos
from tests import models
from tests.end_to_end.server_process import Client, ServerProcess, free_port

pytestmark = pytest.mark.slow

client = tf.profiler.experimental.client


class Traced:
    """A server with the flag, and its port: TensorFlow's client knows no sockets."""

    def __init__(self, process: ServerProcess, port: int) -> None:
        self.process = process
        self.port = port
        self.address = f"grpc://127.0.0.1:{port}"


@pytest.fixture(scope="module", params=["grpcio", "http2"])
def server(request, exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiled")
    shutil.copytree(exported(models.half_plus_two), folder / "m" / "1")
    port = free_port()
    with ServerProcess(
        f"--port={port}",
        f"--grpc_transport={request.param}",
        "--model_name=m",
        f"--model_base_path={folder / 'm'}",
    ) as process:
        yield Traced(process, port)


@contextmanager
def asked(server: Traced) -> Iterator[list[float]]:
    """Somebody asks the model on and on; the answers as they come."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    answers: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with Client(server.process) as stubs:
            while not over.is_set():
                answers.append(stubs.prediction.Predict(request, timeout=60).outputs["y"].float_val[0])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def traced(log_folder: Path) -> protos.XSpace:
    """The one trace where TensorBoard looks for traces."""
    (file,) = log_folder.glob("plugins/profile/*/*.xplane.pb")
    assert file.name.startswith("127.0.0.1_")
    return protos.XSpace.FromString(file.read_bytes())


def events(space: protos.XSpace) -> dict[str, set[str]]:
    """Names of the events of each thread of the host."""
    (host,) = [plane for plane in space.planes if plane.name == "/host:CPU"]
    names = {number: metadata.name for number, metadata in host.event_metadata.items()}
    return {f"{line.name}/{line.id}": {names[event.metadata_id] for event in line.events} for line in host.lines}


@pytest.mark.proves("rpc ProfilerService.Profile", "difference: `--enable_profiler`")
def test_a_trace_holds_the_ops_of_what_was_answered_meanwhile(server, tmp_path):
    with asked(server) as answers:
        before = len(answers)
        client.trace(server.address, str(tmp_path), 500)
        after = len(answers)
    assert after > before, "requests are answered while a trace is taken"
    assert set(answers) == {2.5}
    of_threads = events(traced(tmp_path))
    assert of_threads
    seen = set.union(*of_threads.values())
    assert any("SessionRun" in name or "DirectSession" in name for name in seen), seen
    assert {"y:AddV2", "mul:Mul"} <= seen


def test_a_trace_of_python_is_taken_without_harm(server):
    request = protos.ProfileRequest(session_id="s", opts={"version": 1, "duration_ms": 300, "python_tracer_level": 1})
    with asked(server) as answers, server.process.channel() as channel:
        response = profile(channel)(request, timeout=60)
        after = len(answers)
    assert not response.empty_trace
    assert after
    seen = set.union(*events(protos.XSpace.FromString(response.tool_data[0].data)).values())
    assert any(".py" in name for name in seen)


def test_a_second_trace_at_the_same_time_is_refused_and_the_first_can_be_ended(server):
    with server.process.channel() as channel:
        first, refusal = taken(channel, "first")
        assert refusal == "INTERNAL: Another profiling session active."
        terminate = channel.unary_unary(
            "/tensorflow.ProfilerService/Terminate",
            protos.TerminateRequest.SerializeToString,
            protos.TerminateResponse.FromString,
        )
        terminate(protos.TerminateRequest(session_id="first"), timeout=60)
        first.result(timeout=60)


def test_monitoring_is_for_tpus_as_ever(server):
    with pytest.raises(RuntimeError, match=r"^UNIMPLEMENTED: unimplemented\.$"):
        client.monitor(server.address, 10)


def profile(channel: grpc.Channel) -> grpc.UnaryUnaryMultiCallable:
    path = "/tensorflow.ProfilerService/Profile"
    return channel.unary_unary(path, protos.ProfileRequest.SerializeToString, protos.ProfileResponse.FromString)


def taken(channel: grpc.Channel, session_id: str) -> tuple[grpc.Future, str]:
    """A trace that goes on and on, and what another is told meanwhile."""
    while True:
        trace = profile(channel).future(protos.ProfileRequest(session_id=session_id, opts={"duration_ms": 60_000}))
        while not trace.done():  # it is, at once, if the other one is there before it
            error = profile(channel).future(protos.ProfileRequest(), timeout=60).exception()
            if error is not None:
                return trace, f"{error.code().name}: {error.details()}"


def test_a_trace_does_not_keep_the_server_from_stopping(server):
    with server.process.channel() as channel:
        trace, _ = taken(channel, "last")
        server.process.terminate()
        trace.result(timeout=30)
    assert server.process.wait() == 0
