"""Unmodified gRPC clients of four languages against a real server: one table of calls, one right outcome of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from tests.end_to_end.client_requests import predict_request, status_request
from tests.interop import clients
from tests.interop.clients import Client, Order, Outcome
from tests.interop.conftest import Served

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
OK, CANCELLED, DEADLINE_EXCEEDED, NOT_FOUND, UNIMPLEMENTED = 0, 1, 4, 5, 12
CLIENTS: dict[str, Callable[[Path], Client]] = {
    "grpcio": lambda folder: clients.grpcio,
    "grpcio-aio": lambda folder: clients.grpcio_aio,
    "grpc-js": clients.grpc_js,
    "grpc++": clients.cplusplus,
    "grpc-go": clients.go,
}
# The other clients beside the grpcio transport would tell of grpcio's own server only.
PAIRS = [*(("http2", name) for name in CLIENTS), ("grpcio", "grpcio")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize(("served", "client"), PAIRS, indirect=True, scope="session", ids=map("-".join, PAIRS)),
]


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return CLIENTS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture
def ask(client: Client, served: Served) -> Callable[..., list[Outcome]]:
    return lambda *orders: client(served.address, orders)


def predict(x: Any, model: str = "m", alias: str = "x", **more: Any) -> Order:
    return Order(PREDICT, predict_request(model, {alias: x}).SerializeToString(), **more)


def count(steps: int, **more: Any) -> Order:
    return predict(np.int64(steps), "slow", "steps", **more)


def answered(outcome: Outcome, alias: str = "y") -> np.ndarray:
    assert outcome.codes.keys() == {OK}, outcome
    response = predict_pb2.PredictResponse.FromString(outcome.answer)
    array: np.ndarray = tf.make_ndarray(response.outputs[alias])
    return array


def floats(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.float32)


def test_predict_is_answered_with_the_models_values(ask):
    small, large = ask(predict(floats(3)), predict(floats(200_000)))
    np.testing.assert_array_equal(answered(small), [2.0, 2.5, 3.0])
    np.testing.assert_array_equal(answered(large), floats(200_000) / 2 + 2)


def test_an_error_has_its_code_and_its_message_in_full(ask):
    (outcome,) = ask(predict(floats(1), "größer 100 %"))
    assert outcome.codes == {NOT_FOUND: 1}
    assert outcome.message == "Servable not found for request: Latest(größer 100 %)"


def test_an_unknown_method_is_unimplemented(ask):
    (outcome,) = ask(Order("/tensorflow.serving.PredictionService/Foretell", b""))
    assert outcome.codes == {UNIMPLEMENTED: 1}


def test_model_status_is_told(ask):
    (outcome,) = ask(Order(STATUS, status_request("m").SerializeToString()))
    (state,) = get_model_status_pb2.GetModelStatusResponse.FromString(outcome.answer).model_version_status
    assert (state.version, state.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests_are_read(ask, compression, request):
    if compression == "deflate" and request.node.callspec.params["client"] == "grpc-go":
        pytest.skip("grpc-go knows no deflate")
    small, large = ask(predict(floats(3), how=compression), predict(floats(200_000), how=compression))
    np.testing.assert_array_equal(answered(small), [2.0, 2.5, 3.0])
    np.testing.assert_array_equal(answered(large), floats(200_000) / 2 + 2)


def test_five_thousand_calls_at_once_go_over_one_channel(ask):
    (outcome,) = ask(predict(floats(3), count=5000))
    assert outcome.codes == {OK: 5000}, outcome.message
    np.testing.assert_array_equal(answered(outcome), [2.0, 2.5, 3.0])


def test_deadlines_are_kept_and_the_channel_goes_on(ask):
    late, next_one = ask(count(300_000, timeout_millis=100), predict(floats(1), timeout_millis=60_000))
    assert late.codes == {DEADLINE_EXCEEDED: 1}
    np.testing.assert_array_equal(answered(next_one), [2.0])


def test_a_cancelled_call_leaves_the_channel_as_it_was(ask):
    cancelled, next_one = ask(count(200_000, how="cancel"), predict(floats(1)))
    assert cancelled.codes == {CANCELLED: 1}
    np.testing.assert_array_equal(answered(next_one), [2.0])


def test_a_client_that_pings_meanwhile_gets_its_slow_answer(ask):
    (outcome,) = ask(count(600_000))
    assert answered(outcome, "counted") == 600_000


def test_messages_of_64_mb_go_both_ways(ask):
    x = floats(16 << 20)
    (outcome,) = ask(predict(x))
    np.testing.assert_array_equal(answered(outcome), x / 2 + 2)
