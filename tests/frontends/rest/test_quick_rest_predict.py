from __future__ import annotations

import asyncio

import numpy as np
import pytest

from pyserving.errors import InvalidArgument
from pyserving.frontends.rest import RestApi, RestOptions
from pyserving.messages import HttpRequest, HttpResponse
from pyserving.metrics import Metrics
from pyserving.signature import DataType, SignatureDef, TensorInfo
from tests.fake_core import FakeCore

SIGNATURE = SignatureDef(
    {"x": TensorInfo("x:0", DataType.DT_FLOAT, None)}, {"y": TensorInfo("y:0", DataType.DT_FLOAT, None)}
)
BODY = b'{"instances": [1, 2, 5]}'
SAID = b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'


class Model:
    """x / 2 + 2, as often repeated as a test likes; its error, when it is given one."""

    def __init__(self):
        self.repeats = 1
        self.error = None
        self.runs = 0

    def __call__(self, feeds):
        self.runs += 1
        if self.error is not None:
            raise self.error
        return {"y:0": np.repeat(feeds["x:0"] / np.float32(2) + np.float32(2), self.repeats)}


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def core(model):
    core = FakeCore({"serving_default": SIGNATURE, "other": SIGNATURE}, model)
    core.is_quick = True
    return core


@pytest.fixture
def metrics():
    metrics = Metrics()
    metrics.know_model("m")
    return metrics


@pytest.fixture
def api(core, metrics):
    return RestApi(core, metrics)


class Asked:
    """An answer, and whether it was had at once."""

    def __init__(self, response, at_once):
        self.said = response.status, response.body
        self.version = dict(response.headers).get("X-Model-Version")
        self.at_once = at_once


async def ask(api, body=BODY, path="/v1/models/m:predict", headers=None):
    answer = api(HttpRequest("POST", path, "", headers or {}, body))
    if isinstance(answer, HttpResponse):
        return Asked(answer, True)
    return Asked(await answer, False)


async def test_the_second_request_of_a_kind_is_answered_at_once(api):
    first, second = await ask(api), await ask(api)
    assert (first.at_once, second.at_once) == (False, True)
    assert first.said == second.said == (200, SAID)
    assert first.version == second.version == "7"


@pytest.mark.parametrize(
    ("body", "path", "headers"),
    [
        (b'{"instances": [1, 2]}', "/v1/models/m:predict", {}),
        (b'{"signature_name": "other", "instances": [1, 2, 5]}', "/v1/models/m:predict", {}),
        (BODY, "/v1/models/m/versions/7:predict", {}),
        (BODY, "/v1/models/m:predict", {"content-encoding": "br"}),
        (b'{"instances": [1, 2, 5' + b" " * 70_000 + b"]}", "/v1/models/m:predict", {}),
    ],
)
async def test_other_kinds_are_not(api, body, path, headers):
    await ask(api)
    asked = await ask(api, body, path, headers)
    assert (asked.at_once, asked.said[0]) == (False, 200)


async def test_columns_are_answered_as_columns(api):
    await ask(api)
    asked = await ask(api, b'{"inputs": [1, 2, 5]}')
    assert asked.said == (200, b'{\n    "outputs": [\n        2.5,\n        3.0,\n        4.5\n    ]\n}')
    assert asked.at_once


async def test_what_is_wrong_with_a_body_is_said_as_ever(api, model):
    await ask(api)
    asked = await ask(api, b'{"instances": [1, 2')
    assert (asked.at_once, asked.said[0]) == (False, 400)
    assert model.runs == 1


async def test_a_run_that_fails_is_made_and_counted_once(api, model, metrics):
    await ask(api)
    model.error = InvalidArgument("not today")
    asked = await ask(api)
    assert (asked.at_once, asked.said) == (True, (400, b'{\n    "error": "not today"\n}'))
    assert model.runs == 2
    assert metrics.request_count.labels("m", "INVALID_ARGUMENT").value == 1


async def test_a_run_that_would_wait_goes_the_long_way(api, core):
    await ask(api)
    core.is_quick = False
    asked = await ask(api)
    assert (asked.at_once, asked.said) == (False, (200, SAID))


async def test_nothing_known_outlives_a_change_of_models(api, core):
    await ask(api)
    core.generation += 1
    assert [(await ask(api)).at_once for _ in range(2)] == [False, True]


async def test_large_answers_are_not_written_on_the_loop(api, model):
    model.repeats = 10_000
    assert [(await ask(api)).at_once for _ in range(2)] == [False, False]


async def test_answers_that_may_be_compressed_go_the_long_way(core, metrics):
    api = RestApi(core, metrics, RestOptions(gzip_answers=True))
    assert [(await ask(api)).at_once for _ in range(2)] == [False, False]


async def test_both_ways_count_alike(api, metrics):
    for _ in range(3):
        await ask(api)
        await asyncio.sleep(0)
    page = metrics.exposition().decode()
    for line in (
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 3',
        ':tensorflow:serving:request_latency_count{model_name="m",API="predict",entrypoint="REST"} 3',
        ':tensorflow:serving:runtime_latency_count{model_name="m",API="Predict",runtime="TF1"} 3',
        ':pyserving:request_duration_micros_count{model="m",version="7",signature="serving_default",status="OK"} 3',
    ):
        assert line in page
