"""PredictionService, bytes in and bytes out, on a core that answers from plain functions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from pyserving import protos
from pyserving.errors import Internal, InvalidArgument, NotFound
from pyserving.frontends.prediction_service import PredictionService
from pyserving.messages import Buffer, CallContext
from pyserving.metrics import Metrics
from pyserving.signature import DataType, SignatureDef, TensorInfo
from pyserving.types import ServableId
from tests.fake_core import FakeCore

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
X = TensorInfo("x:0", DataType.DT_FLOAT, (-1,))
SIGNATURE = SignatureDef(
    {"x": X},
    {
        "y": TensorInfo("y:0", DataType.DT_FLOAT, (-1,)),
        "words": TensorInfo("words:0", DataType.DT_STRING, (-1,)),
        "count": TensorInfo("count:0", DataType.DT_INT64, ()),
    },
)


def run(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    x = feeds["x:0"]
    return {"y:0": x * 2, "words:0": np.array([b"a\0", b""], object), "count:0": np.array(x.size, np.int64)}


@pytest.fixture
def core() -> FakeCore:
    return FakeCore({"serving_default": SIGNATURE}, run)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def request(*values: float, name: str = "m", output_filter: tuple[str, ...] = ()) -> bytes:
    message = protos.PredictRequest(output_filter=output_filter)
    message.model_spec.name = name
    message.inputs["x"].dtype = DataType.DT_FLOAT
    message.inputs["x"].tensor_shape.dim.add(size=len(values))
    message.inputs["x"].float_val.extend(values)
    return message.SerializeToString()


async def predict(service: PredictionService, body: bytes, call: CallContext | None = None) -> protos.PredictResponse:
    return protos.PredictResponse.FromString(await service.methods()[PREDICT](body, call or CallContext()))


@pytest.mark.proves(
    "rpc PredictionService.Predict",
    "field PredictRequest.model_spec",
    "field PredictRequest.inputs",
    "field PredictResponse.outputs",
    "field PredictResponse.model_spec",
)
async def test_predict_answers_in_typed_fields_and_says_which_version(core: FakeCore, metrics: Metrics) -> None:
    response = await predict(PredictionService(core, metrics), request(1.0, 2.5))
    assert list(response.outputs["y"].float_val) == [2.0, 5.0]
    assert list(response.outputs["words"].string_val) == [b"a\0", b""]
    assert list(response.outputs["count"].int64_val) == [2]
    assert response.outputs["count"].HasField("tensor_shape")
    assert all(not tensor.tensor_content for tensor in response.outputs.values())
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 7, "serving_default")
    assert spec.WhichOneof("version_choice") == "version"


async def test_predict_answers_in_content_when_told_to(core: FakeCore, metrics: Metrics) -> None:
    service = PredictionService(core, metrics, enable_serialization_as_tensor_content=True)
    response = await predict(service, request(1.0, 2.5))
    assert response.outputs["y"].tensor_content == np.array([2.0, 5.0], "<f4").tobytes()
    assert response.outputs["words"].tensor_content == b"\x02\x00a\0"
    assert not response.outputs["y"].float_val


@pytest.mark.proves("field PredictRequest.output_filter")
async def test_an_output_filter_and_the_deadline_reach_the_core(core: FakeCore, metrics: Metrics) -> None:
    response = await predict(
        PredictionService(core, metrics), request(1.0, output_filter=("y",)), CallContext(deadline=12.5)
    )
    assert list(response.outputs) == ["y"]
    assert core.deadlines == [12.5]


@pytest.mark.proves(
    "field PredictRequest.predict_streamed_options",
    "field PredictRequest.client_id",
    "field PredictRequest.request_options",
    "field PredictRequest.RequestOptions.client_id",
    "field PredictRequest.RequestOptions.deterministic_mode",
    "field PredictRequest.RequestOptions.return_additional_arrays_from_prefill",
    "field PredictRequest.RequestOptions.return_stoptokens",
    "field PredictRequest.RequestOptions.return_all_stoptokens",
    "field PredictRequest.RequestOptions.max_cache_length",
    "field PredictRequest.RequestOptions.handshake",
    "field PredictRequest.RequestOptions.Handshake.estimated_payload_bytes",
    "field PredictStreamedOptions.request_state",
    "field PredictStreamedOptions.split_dimensions",
    "field PredictStreamedOptions.return_single_response",
)
async def test_what_only_streams_and_generators_of_text_read_is_passed_over(core: FakeCore, metrics: Metrics) -> None:
    service = PredictionService(core, metrics)
    plain = await predict(service, request(1.0, 2.5))
    more = protos.PredictRequest.FromString(request(1.0, 2.5))
    more.client_id = b"somebody"
    more.predict_streamed_options.request_state = 3  # CANCEL
    more.predict_streamed_options.split_dimensions["x"] = 1
    more.predict_streamed_options.return_single_response = True
    options = more.request_options
    options.client_id, options.deterministic_mode, options.max_cache_length = b"somebody", 1, 7
    options.return_additional_arrays_from_prefill = options.return_all_stoptokens = True
    options.return_stoptokens.append(5)
    options.handshake.estimated_payload_bytes = 1 << 40
    assert await predict(service, more.SerializeToString()) == plain


@pytest.mark.parametrize("body", [b"\xff", request(1.0)[:-3], b"\x0a\x03\x0a\x01\xff"])
async def test_bytes_that_are_no_request_are_internal(core: FakeCore, metrics: Metrics, body: bytes) -> None:
    with pytest.raises(Internal, match=r"Failed to parse the request as tensorflow\.serving\.PredictRequest"):
        await predict(PredictionService(core, metrics), body)


async def test_a_request_without_a_spec_is_refused_and_counted_without_a_name(core: FakeCore, metrics: Metrics) -> None:
    with pytest.raises(InvalidArgument, match=r"^Missing ModelSpec$"):
        await predict(PredictionService(core, metrics), b"")
    assert metrics.request_count.labels("", "INVALID_ARGUMENT").value == 1


async def test_a_tensor_beyond_the_limit_is_refused(core: FakeCore, metrics: Metrics) -> None:
    service = PredictionService(core, metrics, max_expanded_tensor_bytes=8)
    assert list((await predict(service, request(1.0, 2.0))).outputs["y"].float_val) == [2.0, 4.0]
    with pytest.raises(InvalidArgument, match=r"^tensor parsing error: x$"):
        await predict(service, request(1.0, 2.0, 3.0))


async def test_requests_and_runs_are_counted_under_their_names(core: FakeCore, metrics: Metrics) -> None:
    service = PredictionService(core, metrics)
    await predict(service, request(1.0))
    with pytest.raises(NotFound):
        await predict(service, request(1.0, name="n"))
    assert metrics.request_count.labels("m", "OK").value == 1
    assert metrics.request_count.labels("n", "NOT_FOUND").value == 1
    page = metrics.exposition().decode()
    assert ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 1\n' in page
    assert ':tensorflow:serving:runtime_latency_sum{model_name="m",API="Predict",runtime="TF1"} 12\n' in page
    ours = ':pyserving:request_duration_micros_count{model="m",version="7",signature="serving_default",status="OK"} 1'
    assert ours in page


def metadata_request(*fields: str, name: str = "m") -> bytes:
    message = protos.GetModelMetadataRequest(metadata_field=fields)
    if name:
        message.model_spec.name = name
    return message.SerializeToString()


async def test_metadata_comes_as_the_model_has_it(core: FakeCore, metrics: Metrics) -> None:
    body = await PredictionService(core, metrics).methods()[METADATA](
        metadata_request("signature_def", "signature_def"), CallContext()
    )
    response = protos.GetModelMetadataResponse.FromString(body)
    assert (response.model_spec.name, response.model_spec.version.value) == ("m", 7)
    assert response.model_spec.signature_name == ""
    (field,) = response.metadata
    assert field == "signature_def"
    assert response.metadata[field].type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (metadata_request("x", name=""), "Missing ModelSpec"),
        (metadata_request(), "GetModelMetadataRequest must specify at least one metadata_field"),
        (metadata_request("signature_def", "x", name="n"), "Metadata field x is not supported"),
    ],
)
async def test_metadata_checks_in_order(core: FakeCore, metrics: Metrics, body: bytes, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await PredictionService(core, metrics).methods()[METADATA](body, CallContext())
    assert raised.value.message == sentence


async def test_requests_that_differ_in_their_numbers_alone_get_their_own_answers(
    core: FakeCore, metrics: Metrics
) -> None:
    service = PredictionService(core, metrics)
    answers = [await predict(service, request(number, number + 1)) for number in (1.0, 2.0, 3.0)]
    assert [list(answer.outputs["y"].float_val) for answer in answers] == [[2, 4], [4, 6], [6, 8]]
    assert [answer.model_spec.version.value for answer in answers] == [7, 7, 7]


class Listener:
    """Hears of one model."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self.heard: list[tuple[str, ServableId, str, bytes, bytes]] = []

    def observe(self, model_name: str) -> None:
        self._model_name = model_name

    def observes(self, model_name: str) -> bool:
        return model_name == self._model_name

    def picks(self, model_name: str) -> bool:
        return self.observes(model_name)

    def answered(
        self, api: str, servable_id: ServableId, signature_name: str, request: Buffer, response: bytes
    ) -> None:
        self.heard.append((api, servable_id, signature_name, bytes(request), response))


async def test_an_observer_hears_what_was_asked_and_answered(core: FakeCore, metrics: Metrics) -> None:
    listener = Listener("m")
    service = PredictionService(core, metrics, observer=listener)
    body = request(1.0)
    answer = await service.methods()[PREDICT](body, CallContext())
    assert listener.heard == [("Predict", ServableId("m", 7), "serving_default", body, answer)]


async def test_an_observer_hears_nothing_of_other_models_and_of_failures(core: FakeCore, metrics: Metrics) -> None:
    listener = Listener("n")
    service = PredictionService(core, metrics, observer=listener)
    await service.methods()[PREDICT](request(1.0), CallContext())
    with pytest.raises(NotFound):
        await service.methods()[PREDICT](request(1.0, name="n"), CallContext())
    assert listener.heard == []


async def test_what_is_observed_is_never_answered_the_quick_way(core: FakeCore, metrics: Metrics) -> None:
    core.is_quick = True
    listener = Listener("n")
    service = PredictionService(core, metrics, observer=listener)
    quick = service.quick_methods()[PREDICT]
    await service.methods()[PREDICT](request(1.0), CallContext())
    assert quick(request(2.0), None) is not None
    listener.observe("m")
    core.generation += 1  # as with each config
    assert quick(request(2.0), None) is None
    await service.methods()[PREDICT](request(1.0), CallContext())
    assert quick(request(2.0), None) is None
    assert len(listener.heard) == 1
