"""What an observer hears of REST: the same that it would hear, had gRPC been asked."""

from __future__ import annotations

import numpy as np
import pytest

from pyserving import protos
from pyserving.codec import tensor_proto
from pyserving.frontends.prediction_service import PredictionService
from pyserving.frontends.rest import RestApi, RestOptions
from pyserving.frontends.rest.answer import LARGE_BODY_BYTES
from pyserving.messages import CallContext, HttpRequest, HttpResponse
from pyserving.metrics import Metrics
from pyserving.signature import CLASSIFY_METHOD_NAME, DataType, SignatureDef, TensorInfo
from pyserving.types import ServableId
from tests.fake_core import FakeCore

METHOD = "/tensorflow.serving.PredictionService/"
X, Y = (TensorInfo(name, DataType.DT_FLOAT, (-1,)) for name in ("x:0", "y:0"))
WORDS, CAPITALS = (TensorInfo(name, DataType.DT_STRING, (-1,)) for name in ("words:0", "capitals:0"))
SIGNATURES = {
    "serving_default": SignatureDef({"x": X}, {"y": Y}),
    "words": SignatureDef({"x": X, "words": WORDS}, {"y": Y, "capitals": CAPITALS}),
    "classify": SignatureDef(
        {"inputs": TensorInfo("examples:0", DataType.DT_STRING, (-1,))},
        {"scores": TensorInfo("scores:0", DataType.DT_FLOAT, (-1, 2))},
        CLASSIFY_METHOD_NAME,
    ),
}


def run(feeds):
    if "examples:0" in feeds:
        return {"scores:0": np.array([[0.25, 0.75]] * len(feeds["examples:0"]), np.float32)}
    words = feeds.get("words:0", np.array([], object))
    return {"y:0": feeds["x:0"] * np.float32(2), "capitals:0": np.array([word.upper() for word in words], object)}


class Listener:
    """Hears of model `m`: of every request, or of none that it could."""

    def __init__(self):
        self.observed = {"m"}
        self.picks_all = True
        self.heard = []

    def observes(self, model_name):
        return model_name in self.observed

    def picks(self, model_name):
        return self.picks_all and self.observes(model_name)

    def answered(self, api, servable_id, signature_name, request, response):
        self.heard.append((api, servable_id, signature_name, bytes(request), response))


class Offload:
    def __init__(self):
        self.count = 0

    async def __call__(self, function):
        self.count += 1
        return function()


@pytest.fixture
def core():
    core = FakeCore(SIGNATURES, run)
    core.labels = {"stable": 7}
    core.is_quick = True
    return core


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def offload():
    return Offload()


@pytest.fixture
def api(core, listener, offload):
    return RestApi(core, Metrics(), RestOptions(), offload, listener)


async def ask(api, path, body, content_type="application/json"):
    answer = api(HttpRequest("POST", f"/v1/models/{path}", "", {"content-type": content_type}, body))
    response = answer if isinstance(answer, HttpResponse) else await answer
    return response.status


def heard_predict(listener, signature="serving_default"):
    [(api, servable_id, signature_name, request, response)] = listener.heard
    assert (api, servable_id, signature_name) == ("Predict", ServableId("m", 7), signature)
    return protos.PredictRequest.FromString(request), protos.PredictResponse.FromString(response)


async def test_a_predict_request_is_heard_with_its_inputs_and_all_outputs(api, listener):
    rows = b'[{"x": 1.5, "words": "a"}, {"x": 2, "words": "b"}]'
    assert await ask(api, "m:predict", b'{"signature_name": "words", "instances": %b}' % rows) == 200
    request, response = heard_predict(listener, "words")
    assert request.model_spec == protos.ModelSpec(name="m", signature_name="words")
    assert tensor_proto.decode(request.inputs["x"]).tolist() == [1.5, 2.0]
    assert tensor_proto.decode(request.inputs["words"]).tolist() == [b"a", b"b"]
    assert tensor_proto.decode(response.outputs["y"]).tolist() == [3.0, 4.0]
    assert tensor_proto.decode(response.outputs["capitals"]).tolist() == [b"A", b"B"]
    assert response.model_spec.version.value == 7


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("m:predict", {"name": "m"}),
        ("m/versions/7:predict", {"name": "m", "version": {"value": 7}}),
        ("m/labels/stable:predict", {"name": "m", "version_label": "stable"}),
    ],
)
async def test_it_is_heard_as_it_was_addressed(api, listener, path, spec):
    await ask(api, path, b'{"instances": [1]}')
    assert heard_predict(listener)[0].model_spec == protos.ModelSpec(**spec)


async def test_a_protobuf_body_is_heard_with_the_model_that_the_url_names(api, listener):
    sent = protos.PredictRequest(output_filter=["y"])
    sent.model_spec.name, sent.model_spec.version.value = "another", 3
    sent.model_spec.signature_name = "serving_default"
    tensor_proto.encode_into(np.ones(2, np.float32), sent.inputs["x"])
    assert await ask(api, "m:predict", sent.SerializeToString(), "application/x-protobuf") == 200
    request, response = heard_predict(listener)
    assert request.model_spec == protos.ModelSpec(name="m", signature_name="serving_default")
    assert (request.inputs, request.output_filter) == (sent.inputs, ["y"])
    assert [*response.outputs] == ["y"]


async def test_classify_is_heard(api, listener):
    assert await ask(api, "m:classify", b'{"signature_name": "classify", "examples": [{"a": 1.0}]}') == 200
    [(method, servable_id, signature_name, body, answer)] = listener.heard
    assert (method, servable_id, signature_name) == ("Classify", ServableId("m", 7), "classify")
    request = protos.ClassificationRequest.FromString(body)
    assert request.input.example_list.examples[0].features.feature["a"].float_list.value == [1.0]
    response = protos.ClassificationResponse.FromString(answer)
    assert [found.score for found in response.result.classifications[0].classes] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("m:predict", b'{"signature_name": "words", "instances": [{"x": 1.5, "words": "a"}]}'),
        ("m:classify", b'{"signature_name": "classify", "examples": [{"a": 1.0}, {}]}'),
    ],
)
async def test_grpc_answers_what_was_heard_with_the_same(api, core, listener, path, body):
    await ask(api, path, body)
    [(method, _, _, request, response)] = listener.heard
    service = PredictionService(core, Metrics())
    assert await service.methods()[METHOD + method](request, CallContext()) == response


async def test_what_is_observed_is_never_answered_the_quick_way(api, core, listener):
    listener.observed = set()
    for number in range(3):
        await ask(api, "m:predict", b'{"instances": [%d]}' % number)
    listener.observed = {"m"}
    core.generation += 1  # as with each config
    listener.picks_all = False
    for number in range(3):
        await ask(api, "m:predict", b'{"instances": [%d]}' % number)
    listener.picks_all = True
    for number in range(3):
        await ask(api, "m:predict", b'{"instances": [%d]}' % number)
    assert len(listener.heard) == 3


async def test_nothing_is_heard_of_failures(api, listener):
    assert await ask(api, "n:predict", b'{"instances": [1]}') == 404
    assert await ask(api, "m:predict", b'{"instances": ["one"]}') == 400
    assert listener.heard == []


async def test_a_large_request_is_put_into_words_off_the_loop(api, listener, offload):
    body = b'{"instances": [' + b"1.5," * (LARGE_BODY_BYTES // 4) + b"2]}"
    assert await ask(api, "m:predict", body) == 200
    assert offload.count == 3  # reading, writing, and this
    assert tensor_proto.decode(heard_predict(listener)[0].inputs["x"]).size == LARGE_BODY_BYTES // 4 + 1
