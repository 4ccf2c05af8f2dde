"""tensorflow.serving.PredictionService: request bytes in, answer bytes out, on top of a core it is handed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.tensor_proto import TensorProtoInputs, encode_into
from pyserving.core import Core
from pyserving.errors import Internal, InvalidArgument
from pyserving.inference.classify import classify
from pyserving.inference.multi_inference import multi_inference
from pyserving.inference.regress import regress
from pyserving.messages import Buffer, CallContext, Method
from pyserving.metrics import Metrics

SERVICE = "tensorflow.serving.PredictionService"
_SIGNATURE_DEF = "signature_def"
_RUNTIME = "TF1"
"""The `runtime` label TensorFlow Serving gives a session run."""

MessageT = TypeVar("MessageT", bound=Message)


def parse(message_class: Callable[[], MessageT], body: Buffer) -> MessageT:
    """The request message. Bytes that are none are INTERNAL, as gRPC answers them before a handler sees them."""
    message = message_class()
    try:
        message.ParseFromString(body if isinstance(body, bytes) else bytes(body))
    except DecodeError as error:
        raise Internal(f"Failed to parse the request as {message.DESCRIPTOR.full_name}: {error}") from None
    return message


@dataclass(frozen=True, slots=True)
class PredictionService:
    """The five methods of the service."""

    core: Core
    metrics: Metrics
    max_expanded_tensor_bytes: int = 1 << 30
    """A request tensor that would take more is refused before memory is."""
    enable_serialization_as_tensor_content: bool = False
    enable_signature_method_name_check: bool = False

    def methods(self) -> Mapping[str, Method]:
        """Full method path to method."""
        return {
            f"/{SERVICE}/Predict": self.predict,
            f"/{SERVICE}/Classify": self.classify,
            f"/{SERVICE}/Regress": self.regress,
            f"/{SERVICE}/MultiInference": self.multi_inference,
            f"/{SERVICE}/GetModelMetadata": self.get_model_metadata,
        }

    async def predict(self, body: Buffer, call: CallContext) -> bytes:
        request = parse(protos.PredictRequest, body)
        name = request.model_spec.name
        with self.metrics.request(name, "Predict", "GRPC") as counted:
            spec = model_spec.decode(_required_spec(request))
            prediction = await self.core.predict(
                spec,
                TensorProtoInputs(request.inputs, self.max_expanded_tensor_bytes),
                request.output_filter,
                deadline=call.deadline,
            )
            self._observe_run(name, "Predict", prediction.runtime_micros)
            counted.version = str(prediction.servable_id.version)
            counted.signature_name = prediction.signature_name
            response = protos.PredictResponse()
            for alias, array in prediction.outputs.items():
                encode_into(array, response.outputs[alias], as_content=self.enable_serialization_as_tensor_content)
            model_spec.encode_into(response.model_spec, prediction.servable_id, prediction.signature_name)
            return response.SerializeToString()

    async def classify(self, body: Buffer, call: CallContext) -> bytes:
        return await self._infer(classify, "Classify", body, call)

    async def regress(self, body: Buffer, call: CallContext) -> bytes:
        return await self._infer(regress, "Regress", body, call)

    async def _infer(self, inference: Any, api: str, body: Buffer, call: CallContext) -> bytes:
        request = parse(protos.SerializedExampleRequest, body)
        name = request.model_spec.name
        with self.metrics.request(name, api, "GRPC") as counted:
            _required_spec(request)
            answer = await inference(
                self.core,
                request,
                check_method_name=self.enable_signature_method_name_check,
                deadline=call.deadline,
                on_run=partial(self._observe_run, name, api),
            )
            counted.version = str(answer.response.model_spec.version.value)
            counted.signature_name = answer.response.model_spec.signature_name
            return _serialized(answer.response)

    async def multi_inference(self, body: Buffer, call: CallContext) -> bytes:
        request = parse(protos.SerializedMultiInferenceRequest, body)
        name = request.tasks[0].model_spec.name if request.tasks else ""

        def count_examples(num_examples: int) -> None:
            self.metrics.request_example_counts.labels(name).add(num_examples)
            self.metrics.request_example_count_total.labels(name).increment(num_examples)

        answer = await multi_inference(
            self.core,
            request,
            check_method_name=self.enable_signature_method_name_check,
            deadline=call.deadline,
            on_examples=count_examples,
        )
        return _serialized(answer.response)

    async def get_model_metadata(self, body: Buffer, call: CallContext) -> bytes:
        request = parse(protos.GetModelMetadataRequest, body)
        spec = model_spec.decode(_required_spec(request))
        if not request.metadata_field:
            raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise InvalidArgument(f"Metadata field {field} is not supported")
        servable_id, signature_def_map = self.core.metadata(spec)
        response = protos.GetModelMetadataResponse()
        model_spec.encode_into(response.model_spec, servable_id)
        metadata = response.metadata[_SIGNATURE_DEF]
        metadata.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        metadata.value = signature_def_map
        return response.SerializeToString(deterministic=True)

    def _observe_run(self, model_name: str, api: str, micros: float) -> None:
        self.metrics.runtime_latency.labels(model_name, api, _RUNTIME).add(micros)


def _serialized(response: Message) -> bytes:
    return response.SerializeToString()


def _required_spec(request: Any) -> protos.ModelSpec:
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    spec: protos.ModelSpec = request.model_spec
    return spec
