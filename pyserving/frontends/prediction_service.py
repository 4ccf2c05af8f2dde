"""tensorflow.serving.PredictionService: request bytes in, answer bytes out, on top of a core it is handed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from google.protobuf.message import Message

from pyserving import protos
from pyserving.codec import model_spec, predict_response
from pyserving.codec.message import parse
from pyserving.codec.predict_wire import PredictDecoder
from pyserving.codec.tensor_proto import DEFAULT_MAX_BYTES
from pyserving.core import Core, RequestObserver
from pyserving.errors import InvalidArgument
from pyserving.frontends.quick_predict import QuickPredict
from pyserving.inference.classify import classify
from pyserving.inference.multi_inference import multi_inference
from pyserving.inference.regress import regress
from pyserving.messages import Buffer, CallContext, Method, QuickMethod
from pyserving.metrics import Metrics
from pyserving.types import Prediction, ServableId

SERVICE = "tensorflow.serving.PredictionService"
_SIGNATURE_DEF = "signature_def"
_RUNTIME = "TF1"
"""The `runtime` label TensorFlow Serving gives a session run."""


OFFLOAD_BYTES = 1 << 20
"""Tensors from here on are not decoded and encoded on the loop, where everybody else would wait for them."""


async def _here(function: Callable[[], bytes]) -> bytes:
    return function()


class PredictionService:
    """The five methods of the service."""

    def __init__(
        self,
        core: Core,
        metrics: Metrics,
        *,
        max_expanded_tensor_bytes: int = DEFAULT_MAX_BYTES,
        enable_serialization_as_tensor_content: bool = False,
        enable_signature_method_name_check: bool = False,
        offload: Callable[[Callable[[], bytes]], Awaitable[bytes]] = _here,
        observer: RequestObserver | None = None,
    ) -> None:
        """A request tensor that would take more than `max_expanded_tensor_bytes` is refused before memory is.

        `offload` runs a function in a worker: the encoding of large answers. `observer` hears of what was answered.
        """
        self._offload = offload
        self._core = core
        self._metrics = metrics
        self._observer = observer
        self._as_content = enable_serialization_as_tensor_content
        self._check_method_name = enable_signature_method_name_check
        self._decoder = PredictDecoder(max_expanded_tensor_bytes)
        self._quick_predict = QuickPredict(
            core,
            metrics,
            self._decoder,
            runtime=_RUNTIME,
            max_answer_bytes=OFFLOAD_BYTES,
            as_content=enable_serialization_as_tensor_content,
        )

    def methods(self) -> Mapping[str, Method]:
        """Full method path to method."""
        return {
            f"/{SERVICE}/Predict": self.predict,
            f"/{SERVICE}/Classify": self.classify,
            f"/{SERVICE}/Regress": self.regress,
            f"/{SERVICE}/MultiInference": self.multi_inference,
            f"/{SERVICE}/GetModelMetadata": self.get_model_metadata,
        }

    def quick_methods(self) -> Mapping[str, QuickMethod]:
        """What of them can be answered at once, if all goes well."""
        return {f"/{SERVICE}/Predict": self._quick_predict}

    async def predict(self, body: Buffer, call: CallContext) -> bytes:
        request = self._decoder.decode(body)
        name = request.model_spec.name if request.model_spec else ""
        with self._metrics.request(name, "Predict", "GRPC") as counted:
            if request.model_spec is None:
                raise _missing_spec()
            if is_heavy := request.num_expanded_bytes >= OFFLOAD_BYTES:
                call.reserve(request.num_expanded_bytes)  # a few bytes can declare as much as the limit allows
            prediction = await self._core.predict(
                request.model_spec,
                request.inputs,
                request.output_filter,
                deadline=call.deadline,
                take_in_worker=is_heavy,
            )
            self._observe_run(name, "Predict", prediction.runtime_micros)
            counted.version = str(prediction.servable_id.version)
            counted.signature_name = prediction.signature_name
            size = sum(array.nbytes for array in prediction.outputs.values())
            answer = await self._encoded(prediction, size, call)
        if self._observer is not None and self._observer.observes(name):
            if self._observer.picks(name):
                self._observer.answered("Predict", prediction.servable_id, prediction.signature_name, body, answer)
        elif request.layout is not None:  # what is observed always comes this way
            self._quick_predict.learn(request, size)
        return answer

    async def _encoded(self, prediction: Prediction, size: int, call: CallContext) -> bytes:
        encode = partial(
            predict_response.encode,
            prediction.servable_id,
            prediction.signature_name,
            prediction.outputs,
            as_content=self._as_content,
        )
        if size < OFFLOAD_BYTES:
            return encode()
        call.reserve(2 * size)  # the arrays, and the bytes made of them
        return await self._offload(encode)

    async def classify(self, body: Buffer, call: CallContext) -> bytes:
        return await self._infer(classify, "Classify", body, call)

    async def regress(self, body: Buffer, call: CallContext) -> bytes:
        return await self._infer(regress, "Regress", body, call)

    async def _infer(self, inference: Any, api: str, body: Buffer, call: CallContext) -> bytes:
        request = parse(protos.SerializedExampleRequest, body)
        name = request.model_spec.name
        with self._metrics.request(name, api, "GRPC") as counted:
            _required_spec(request)
            answer = await inference(
                self._core,
                request,
                check_method_name=self._check_method_name,
                deadline=call.deadline,
                on_run=partial(self._observe_run, name, api),
            )
            counted.version = str(answer.response.model_spec.version.value)
            counted.signature_name = answer.response.model_spec.signature_name
            response = _serialized(answer.response)
        self._observe_answer(api, answer.response.model_spec, body, response)
        return response

    async def multi_inference(self, body: Buffer, call: CallContext) -> bytes:
        request = parse(protos.SerializedMultiInferenceRequest, body)
        name = request.tasks[0].model_spec.name if request.tasks else ""

        def count_examples(num_examples: int) -> None:
            self._metrics.request_example_counts.labels(name).add(num_examples)
            self._metrics.request_example_count_total.labels(name).increment(num_examples)

        answer = await multi_inference(
            self._core,
            request,
            check_method_name=self._check_method_name,
            deadline=call.deadline,
            on_examples=count_examples,
        )
        response = _serialized(answer.response)
        if answer.response.results:
            self._observe_answer("MultiInference", answer.response.results[0].model_spec, body, response)
        return response

    async def get_model_metadata(self, body: Buffer, call: CallContext) -> bytes:
        request = parse(protos.GetModelMetadataRequest, body)
        spec = model_spec.decode(_required_spec(request))
        if not request.metadata_field:
            raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise InvalidArgument(f"Metadata field {field} is not supported")
        servable_id, signature_def_map = self._core.metadata(spec)
        response = protos.GetModelMetadataResponse()
        model_spec.encode_into(response.model_spec, servable_id)
        metadata = response.metadata[_SIGNATURE_DEF]
        metadata.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        metadata.value = signature_def_map
        return response.SerializeToString(deterministic=True)

    def _observe_answer(self, api: str, spec: protos.ModelSpec, body: Buffer, response: bytes) -> None:
        """`spec` as the answer has it: with the version."""
        if self._observer is not None and self._observer.picks(spec.name):
            self._observer.answered(api, ServableId(spec.name, spec.version.value), spec.signature_name, body, response)

    def _observe_run(self, model_name: str, api: str, micros: float) -> None:
        self._metrics.runtime_latency.labels(model_name, api, _RUNTIME).add(micros)


def _serialized(response: Message) -> bytes:
    return response.SerializeToString()


def _required_spec(request: Any) -> protos.ModelSpec:
    if not request.HasField("model_spec"):
        raise _missing_spec()
    spec: protos.ModelSpec = request.model_spec
    return spec


def _missing_spec() -> InvalidArgument:
    return InvalidArgument("Missing ModelSpec")
