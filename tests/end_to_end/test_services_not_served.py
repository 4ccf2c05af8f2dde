"""What TensorFlow Serving's protos describe and its released server does not do."""

from __future__ import annotations

import shutil

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc, session_service_pb2

from tests import models
from tests.end_to_end.server_process import ServerProcess, free_port

pytestmark = pytest.mark.slow

UNIMPLEMENTED = (grpc.StatusCode.UNIMPLEMENTED, "")


@pytest.fixture(scope="module", params=["grpcio", "http2"])
def address(request, exported, tmp_path_factory):
    """Of a server without a flag that matters here."""
    folder = tmp_path_factory.mktemp("plain")
    shutil.copytree(exported(models.half_plus_two), folder / "m" / "1")
    flags = (f"--grpc_transport={request.param}", "--model_name=m", f"--model_base_path={folder / 'm'}")
    port = free_port()
    with ServerProcess(f"--port={port}", *flags):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def channel(address):
    with grpc.insecure_channel(address) as channel:
        yield channel


def predict_request() -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    request.predict_streamed_options.request_state = predict_pb2.PredictStreamedOptions.SPLIT
    return request


def session_run_request() -> session_service_pb2.SessionRunRequest:
    request = session_service_pb2.SessionRunRequest(fetch=["y:0"])
    request.model_spec.name = "m"
    return request


def refusal(ask) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        ask()
    return error.value.code(), error.value.details()


@pytest.mark.proves("rpc SessionService.SessionRun", "rpc PredictionService.PredictStreamed")
@pytest.mark.parametrize(
    ("path", "request_message"),
    [
        ("/tensorflow.serving.SessionService/SessionRun", session_run_request()),
        ("/tensorflow.serving.PredictionService/PredictStreamed", predict_request()),
        ("/tensorflow.serving.PredictionService/SessionRun", session_run_request()),
    ],
)
def test_the_method_is_not_there(channel, path, request_message):
    serialize = type(request_message).SerializeToString
    assert refusal(lambda: channel.unary_unary(path, serialize)(request_message, timeout=60)) == UNIMPLEMENTED


def test_predict_is_not_streamed(channel):
    path = "/tensorflow.serving.PredictionService/PredictStreamed"
    stream = channel.stream_stream(path, predict_pb2.PredictRequest.SerializeToString)
    assert refusal(lambda: list(stream(iter([predict_request()] * 3), timeout=60))) == UNIMPLEMENTED


@pytest.mark.proves("field PredictRequest.predict_streamed_options")
def test_options_for_streaming_change_nothing_about_predict(channel):
    answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(predict_request(), timeout=60)
    assert list(answer.outputs["y"].float_val) == [2.5]
