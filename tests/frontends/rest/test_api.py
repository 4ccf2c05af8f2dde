"""What the REST API offers beyond TensorFlow Serving's, and what it does where nobody sees it."""

from __future__ import annotations

import asyncio
import gzip
import json
from functools import partial

import numpy as np
import pytest

from pyserving import protos
from pyserving.codec.json.predict import NonFinite
from pyserving.errors import Internal, ResourceExhausted
from pyserving.frontends.rest import RestApi, RestOptions
from pyserving.messages import HttpRequest, HttpResponse
from pyserving.metrics import Metrics
from pyserving.signature import CLASSIFY_METHOD_NAME, DataType, SignatureDef, TensorInfo
from pyserving.types import ManagerState, ServableId, ServableState
from tests.fake_core import FakeCore

FLOATS = TensorInfo("x:0", DataType.DT_FLOAT, (-1,))
STRINGS = TensorInfo("s:0", DataType.DT_STRING, None)
SIGNATURES = {
    "serving_default": SignatureDef({"x": FLOATS}, {"y": TensorInfo("y:0", DataType.DT_FLOAT, (-1,))}),
    "classify": SignatureDef(
        {"inputs": STRINGS},
        {"classes": TensorInfo("c:0", DataType.DT_STRING, None), "scores": TensorInfo("p:0", DataType.DT_FLOAT, None)},
        CLASSIFY_METHOD_NAME,
    ),
    "regress": SignatureDef({"inputs": STRINGS}, {"outputs": TensorInfo("r:0", DataType.DT_FLOAT, None)}),
}


def run(feeds):
    if "x:0" in feeds:
        return {"y:0": feeds["x:0"] / np.float32(2) + np.float32(2)}
    n = len(feeds["s:0"])
    return {
        "c:0": np.array([[b"car", b"bike"]] * n, object),
        "p:0": np.array([[0.2, 0.7]] * n, np.float32),
        "r:0": np.arange(n, dtype=np.float32),
    }


class Offload:
    """Runs functions at once and remembers that it was asked."""

    def __init__(self):
        self.count = 0
        self.before = lambda: None

    async def __call__(self, function):
        self.count += 1
        self.before()
        await asyncio.sleep(0)
        return function()


@pytest.fixture
def core():
    core = FakeCore(SIGNATURES, run)
    core.states = [ServableState(ServableId("m", 7), ManagerState.AVAILABLE)]
    return core


@pytest.fixture
def offload():
    return Offload()


@pytest.fixture
def ask(core, offload):
    metrics = Metrics()

    async def ask(body=None, path="/v1/models/m:predict", reserve=lambda size: None, headers=None, **options):
        api = RestApi(core, metrics, RestOptions(**options), offload)
        request = HttpRequest("GET" if body is None else "POST", path, "", headers or {}, body or b"", reserve)
        answer = api(request)
        response = answer if isinstance(answer, HttpResponse) else await answer
        return response.status, response.body, dict(response.headers)

    ask.metrics = metrics
    return ask


PREDICT = b'{"instances": [1, 2, 5]}'


@pytest.mark.proves("difference: REST answers")
async def test_answers_name_the_version_that_gave_them(ask):
    for path, body in (
        ("/v1/models/m:predict", PREDICT),
        ("/v1/models/m/metadata", None),
        ("/v1/models/m:classify", b'{"signature_name": "classify", "examples": [{}]}'),
    ):
        status, _, headers = await ask(body, path)
        assert (status, headers["X-Model-Version"]) == (200, "7")
    assert (await ask(b"", "/v1/models/m:predict"))[2] == {}


async def test_classify_and_regress(ask):
    examples = b'"examples": [{"x": 1.0}, {"x": 2.0}]}'
    assert (await ask(b'{"signature_name": "classify", ' + examples, "/v1/models/m:classify"))[:2] == (
        200,
        b'{\n    "results": [[["car", 0.2], ["bike", 0.7]], [["car", 0.2], ["bike", 0.7]]\n    ]\n}',
    )
    assert (await ask(b'{"signature_name": "regress", ' + examples, "/v1/models/m:regress"))[:2] == (
        200,
        b'{\n    "results": [0.0, 1.0]\n}',
    )


async def test_the_body_of_a_classification_is_read_before_the_model_is_looked_up(ask):
    status, body, _ = await ask(b'{"examples": [1]}', "/v1/models/nobody:classify")
    assert (status, json.loads(body)) == (400, {"error": "Example must be JSON object but got JSON Number"})
    status, body, _ = await ask(b'{"examples": [{}]}', "/v1/models/nobody:classify")
    assert status == 404


async def test_method_names_are_checked_when_a_flag_asks_for_it(ask):
    body = b'{"signature_name": "regress", "examples": [{}]}'
    status, said, _ = await ask(body, "/v1/models/m:regress", enable_signature_method_name_check=True)
    assert status == 400
    assert b"Expected regression signature method_name to be tensorflow/serving/regress. Was: " in said


async def test_a_model_name_that_is_no_utf8_is_asked_for_as_it_is(ask):
    status, body, _ = await ask(b'{"examples": [{}]}', "/v1/models/m%ff:classify")
    assert (status, body) == (404, b'{\n    "error": "Servable not found for request: Latest(m\xff)"\n}')
    ask.metrics.exposition()


@pytest.mark.parametrize(("seconds", "has_deadline"), [(30, True), (0, False), (-1, False)])
@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
async def test_runs_have_a_deadline_unless_it_is_turned_off(ask, core, seconds, has_deadline, verb):
    now = asyncio.get_running_loop().time()
    body = PREDICT if verb == "predict" else b'{"signature_name": "%b", "examples": [{}]}' % verb.encode()
    await ask(body, f"/v1/models/m:{verb}", timeout_seconds=seconds)
    (deadline,) = core.deadlines
    assert (deadline is not None) is has_deadline
    if deadline is not None:
        assert now + 30 <= deadline < now + 40


@pytest.mark.proves("difference: NaN and infinities in REST answers")
@pytest.mark.parametrize(
    ("nonfinite", "written"),
    [(NonFinite.TOKEN, b"NaN, Infinity"), (NonFinite.NULL, b"null, null"), (NonFinite.STRING, b'"NaN", "Infinity"')],
)
async def test_how_nan_is_written_is_a_flags_to_say(ask, nonfinite, written):
    _, body, _ = await ask(b'{"instances": [NaN, Infinity]}', nonfinite=nonfinite)
    assert written in body


@pytest.mark.proves("difference: Compressed REST answers")
async def test_answers_are_compressed_for_those_who_take_it_when_a_flag_asks_for_it(ask):
    body = json.dumps({"instances": [0.1] * 500}).encode()
    plain = await ask(body, headers={"accept-encoding": "gzip"})
    assert "Content-Encoding" not in plain[2]
    status, packed, headers = await ask(body, headers={"accept-encoding": "gzip"}, gzip_answers=True)
    assert (status, headers["Content-Encoding"], headers["Vary"]) == (200, "gzip", "Accept-Encoding")
    assert gzip.decompress(packed) == plain[1]
    _, unpacked, headers = await ask(body, gzip_answers=True)
    assert (unpacked, headers["Vary"]) == (plain[1], "Accept-Encoding")
    assert "Content-Encoding" not in headers
    _, small, headers = await ask(PREDICT, headers={"accept-encoding": "gzip"}, gzip_answers=True)
    assert small.startswith(b"{")


def predict_request(values, signature_name="", name="somebody"):
    request = protos.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature_name
    tensor = request.inputs["x"]
    tensor.dtype = DataType.DT_FLOAT
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.tensor_content = np.array(values, np.float32).tobytes()
    return request.SerializeToString()


PROTOBUF = {"content-type": "application/x-protobuf; charset=x"}


@pytest.mark.proves("difference: Protobuf over HTTP")
@pytest.mark.parametrize("size", [3, 100_000])
async def test_predict_takes_protobuf_and_answers_it(ask, size):
    body = predict_request(np.ones(size), "serving_default")
    status, said, headers = await ask(body, "/v1/models/m:predict", headers=PROTOBUF)
    response = protos.PredictResponse.FromString(said)
    assert (status, headers["X-Model-Version"]) == (200, "7")
    assert (response.model_spec.name, response.model_spec.version.value) == ("m", 7)
    assert list(response.outputs["y"].float_val) == [2.5] * size


async def test_of_a_protobuf_request_the_url_names_the_model(ask):
    status, said, _ = await ask(predict_request([1], name="m"), "/v1/models/n:predict", headers=PROTOBUF)
    assert (status, json.loads(said)) == (404, {"error": "Servable not found for request: Latest(n)"})


async def test_errors_of_protobuf_requests_are_json(ask):
    status, said, _ = await ask(b"\xff\xff", "/v1/models/m:predict", headers=PROTOBUF)
    assert status == 400
    assert "error" in json.loads(said)


async def test_small_bodies_and_answers_stay_on_the_loop(ask, offload):
    await ask(PREDICT)
    assert offload.count == 0


async def test_large_bodies_and_answers_leave_it(ask, offload):
    body = json.dumps({"instances": [0.1] * 20_000}).encode()
    reserved = []
    status, said, _ = await ask(body, reserve=reserved.append)
    assert (status, len(json.loads(said)["predictions"])) == (200, 20_000)
    assert offload.count == 2
    assert sum(reserved) > len(body)


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("predict", b'{"instances": [%b{"x": 1}]}' % (b'{"x": 1},' * 1000)),
        ("predict", b'{"instances": [%b1], "more": 1}' % (b"1.5," * 3000)),
        ("predict", b'{"instances": [%b' % (b"[" * 9000)),
        ("predict", b'{"instances": [%b1]}' % (b"NaN," * 3000)),
        ("classify", b'{"examples": [%b1]}' % (b'{"a":1},' * 1500)),
    ],
)
async def test_bodies_of_more_than_numbers_leave_it_sooner(ask, offload, verb, body):
    assert 8 << 10 <= len(body) < 64 << 10
    await ask(body, f"/v1/models/m:{verb}")
    assert offload.count >= 1


async def test_bodies_of_numbers_alone_stay_on_the_loop_for_longer(ask, offload):
    status, said, _ = await ask(b'{"instances": [%b1]}' % (b"1.5," * 3000))
    assert (status, len(json.loads(said)["predictions"])) == (200, 3001)
    assert offload.count == 0


async def test_gzip_and_large_examples_leave_it_too(ask, offload):
    await ask(gzip.compress(PREDICT), headers={"content-encoding": "gzip"})
    assert offload.count == 1
    body = json.dumps({"signature_name": "regress", "examples": [{"x": 0.5}] * 10_000}).encode()
    status, said, _ = await ask(body, "/v1/models/m:regress")
    assert (status, len(json.loads(said)["results"])) == (200, 10_000)
    assert offload.count == 3


@pytest.mark.proves("difference: A body compressed with gzip that is a lie")
async def test_a_zip_bomb_is_reserved_for_before_it_is_unpacked(ask, offload):
    def refuse(size):
        assert size == 50 << 20
        raise ResourceExhausted("no memory")

    body = gzip.compress(bytes(50 << 20), 1)
    status, _, _ = await ask(body, headers={"content-encoding": "gzip"}, reserve=refuse)
    assert (status, offload.count) == (429, 0)


async def test_a_large_body_is_read_again_when_the_version_was_swapped_meanwhile(ask, core, offload):
    body = json.dumps({"instances": [1] * 40_000}).encode()
    ids = iter([1, 2, 2, 2])
    old = {"serving_default": SignatureDef({"x": TensorInfo("x:0", DataType.DT_INT64, (-1,))}, {})}

    def signatures(spec):
        version = next(ids)
        return ServableId("m", version), old if version == 1 else SIGNATURES

    core.signatures = signatures
    fed = []
    core.predict = partial(_record_inputs, fed)
    await ask(body)
    assert [array.dtype for array in fed] == [np.float32]
    assert offload.count == 2


async def _record_inputs(fed, spec, inputs, **more):
    fed.extend(inputs.values())
    raise Internal("far enough")


async def test_a_large_body_for_nobody_is_refused_as_a_small_one(ask):
    body = json.dumps({"instances": [1] * 40_000}).encode()
    status, said, _ = await ask(body, "/v1/models/n:predict")
    assert (status, json.loads(said)) == (404, {"error": "Servable not found for request: Latest(n)"})
    status, said, _ = await ask(b"[" * 100_000, "/v1/models/n:predict")
    assert status == 400


@pytest.mark.proves("difference: `GET /v1/models`")
async def test_the_list_of_models(ask, core):
    core.states.append(ServableState(ServableId("m", 3), ManagerState.LOADING, Internal("disk")))
    core.labels = {"stable": 7, "new": 7}
    core.model_names = ["m"]
    core.places = {"serving_default": "loop", "classify": "workers"}
    status, said, _ = await ask(path="/v1/models")
    (model,) = json.loads(said)["models"]
    assert (status, model["name"]) == (200, "m")
    serving, failed = model["versions"]
    assert (serving["version"], serving["state"], serving["labels"]) == ("7", "AVAILABLE", ["new", "stable"])
    assert serving["signatures"]["serving_default"] == {
        "method_name": "tensorflow/serving/predict",
        "inputs": {"x": {"dtype": "DT_FLOAT", "shape": [-1]}},
        "outputs": {"y": {"dtype": "DT_FLOAT", "shape": [-1]}},
    }
    assert serving["signatures"]["classify"]["inputs"]["inputs"]["shape"] is None
    assert serving["execution"] == {"classify": "workers", "serving_default": "loop"}
    assert (failed["version"], failed["state"], failed["signatures"]) == ("3", "LOADING", {})
    assert failed["execution"] == {}
    assert failed["status"] == {"error_code": "INTERNAL", "error_message": "disk"}


async def test_a_model_without_versions_is_listed_too(ask, core):
    core.states.clear()
    _, said, _ = await ask(path="/v1/models")
    assert json.loads(said) == {"models": [{"name": "m", "versions": []}]}
