"""A real server on its own HTTP/2 transport, asked by the stock client."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2

from tests import models
from tests.end_to_end.server_process import Client, ServerProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("http2")
    shutil.copytree(exported(models.half_plus_two), folder / "m" / "1")
    with ServerProcess("--grpc_transport=http2", "--model_name=m", f"--model_base_path={folder / 'm'}") as server:
        yield server


def request(array: np.ndarray) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(array, dtype=tf.float32))
    return request


@pytest.mark.parametrize("rows", [1, 3, 200_000])
def test_predict_is_answered(server, rows):
    x = np.arange(rows, dtype=np.float32)
    with Client(server) as client:
        answer = client.prediction.Predict(request(x), timeout=60)
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["y"]), x / 2 + 2)


def test_many_ask_at_once_each_with_a_deadline_of_its_own(server):
    with Client(server) as client, ThreadPoolExecutor(16) as pool:
        calls = pool.map(
            lambda n: client.prediction.Predict(request(np.float32([n])), timeout=30 + n / 100), range(300)
        )
        assert [answer.outputs["y"].float_val[0] for answer in calls] == [n / 2 + 2 for n in range(300)]


def test_health_is_served(server):
    with server.channel() as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="m"), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_it_stops_in_good_order(server):
    server.terminate()
    assert server.wait() == 0
