"""The three verbs that run a model: a request's body in, its answer's body out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from pyserving.codec import predict_response
from pyserving.codec.json.examples import decode_examples, encode_classify, encode_regress
from pyserving.codec.json.predict import NonFinite, PredictBody, decode_plain, decode_predict, encode_predict
from pyserving.codec.predict_wire import PredictDecoder
from pyserving.codec.tensor_proto import DEFAULT_MAX_BYTES
from pyserving.core import Core, InferenceCore, RequestObserver
from pyserving.errors import Internal, InvalidArgument, ServingError
from pyserving.frontends.rest import as_grpc
from pyserving.frontends.rest.answer import (
    LARGE_BODY_BYTES,
    LARGE_MIXED_BODY_BYTES,
    LARGE_OUTPUT_BYTES,
    Answer,
    written_bytes,
)
from pyserving.frontends.rest.quick_predict import QuickPredict
from pyserving.frontends.rest.routes import Route
from pyserving.inference.classify import classify_examples
from pyserving.inference.regress import regress_examples
from pyserving.messages import Buffer, HttpRequest
from pyserving.metrics import Metrics, Request
from pyserving.signature import SignatureDef
from pyserving.types import ModelSpec, Prediction, ServableId

_T = TypeVar("_T")
_RUNTIME = "TF1"
"""The `runtime` label TensorFlow Serving gives a session run."""
PROTOBUF = "application/x-protobuf"
_MEMORY_OF_JSON = 4
"""Times its length: what a body of JSON takes while arrays are made of it, or it of arrays."""


class Offload(Protocol):
    """Runs a function in a worker."""

    def __call__(self, function: Callable[[], _T], /) -> Awaitable[_T]: ...


async def here(function: Callable[[], _T]) -> _T:
    """An Offload for small servers and tests."""
    return function()


@dataclass(frozen=True, slots=True)
class RestOptions:
    """What flags say."""

    timeout_seconds: float = 30.0
    """Of each run of a model. 0 or less: none."""
    enable_cors_support: bool = False
    enable_signature_method_name_check: bool = False
    max_expanded_tensor_bytes: int = DEFAULT_MAX_BYTES
    nonfinite: NonFinite = NonFinite.TOKEN
    gzip_answers: bool = False
    takes_tokens: bool = False
    """Of clients, so that pages of other origins may send them."""


class RestInference:
    """`predict`, `classify` and `regress`, each of a route, its request, the request's body as it was meant, and the
    count that learns of version and signature. All raise ServingError."""

    def __init__(
        self,
        core: Core,
        metrics: Metrics,
        options: RestOptions,
        offload: Offload,
        observer: RequestObserver | None = None,
    ) -> None:
        self._core = core
        self._metrics = metrics
        self._options = options
        self._offload = offload
        self._observer = observer
        self._decoder = PredictDecoder(options.max_expanded_tensor_bytes)
        self.quick_predict = QuickPredict(core, metrics, _RUNTIME, options.nonfinite, options.max_expanded_tensor_bytes)
        """For an answer without a wait, where there is one."""

    async def predict(self, found: Route, request: HttpRequest, body: Buffer, counted: Request) -> Answer:
        if request.headers.get("content-type", "").startswith(PROTOBUF):
            return await self._predict_proto(found, request, body, counted)
        asked = await self._read(found.spec, request, body)
        spec = replace(found.spec, signature_name=asked.signature_name) if asked.signature_name else found.spec
        prediction = await self._core.predict(spec, asked.inputs, deadline=self._deadline())
        self._note(found, prediction, counted)
        is_observed = self._observer is not None and self._observer.observes(spec.name)
        if len(body) < LARGE_BODY_BYTES and not is_observed:  # what is observed always comes this way
            self.quick_predict.learn(found.spec, asked, prediction)
        write = partial(encode_predict, prediction.outputs, asked.format, nonfinite=self._options.nonfinite)
        size = written_bytes(prediction.outputs)
        if size < LARGE_OUTPUT_BYTES:
            written = write()
        else:
            request.reserve(_MEMORY_OF_JSON * size)
            written = await self._offload(write)
        if is_observed:
            messages = partial(as_grpc.predict, spec, asked.inputs, prediction)
            size += written_bytes(asked.inputs)
            await self._observe("Predict", prediction.servable_id, prediction.signature_name, messages, size)
        return Answer(written, prediction.servable_id.version)

    async def _read(self, spec: ModelSpec, request: HttpRequest, body: Buffer) -> PredictBody:
        max_bytes = self._options.max_expanded_tensor_bytes
        if len(body) < LARGE_MIXED_BODY_BYTES:
            return decode_predict(body, lambda name: self._core.signatures(spec)[1], max_bytes=max_bytes)
        if len(body) < LARGE_BODY_BYTES and (plain := decode_plain(body, lambda name: self._core.signatures(spec)[1])):
            return plain
        request.reserve(_MEMORY_OF_JSON * len(body))
        while True:
            looked_up = _LookUp(self._core, spec)
            asked = await self._offload(partial(decode_predict, body, looked_up.signatures, max_bytes=max_bytes))
            if looked_up.still_holds(self._core, spec):
                return asked

    async def _predict_proto(self, found: Route, request: HttpRequest, body: Buffer, counted: Request) -> Answer:
        """A PredictRequest for a PredictResponse. The URL names model and version; the request may name a signature."""
        try:
            asked = self._decoder.decode(body)
        except Internal as error:  # which it is for gRPC, where a stub has written the message
            raise InvalidArgument(error.message) from None
        spec = found.spec
        if asked.model_spec is not None and asked.model_spec.signature_name:
            spec = replace(spec, signature_name=asked.model_spec.signature_name)
        if is_heavy := asked.num_expanded_bytes >= LARGE_BODY_BYTES:
            request.reserve(asked.num_expanded_bytes)
        prediction = await self._core.predict(
            spec, asked.inputs, asked.output_filter, deadline=self._deadline(), take_in_worker=is_heavy
        )
        self._note(found, prediction, counted)
        servable_id, signature_name = prediction.servable_id, prediction.signature_name
        write = partial(predict_response.encode, servable_id, signature_name, prediction.outputs)
        size = sum(array.nbytes for array in prediction.outputs.values())
        if size < LARGE_BODY_BYTES:
            written = write()
        else:
            request.reserve(2 * size)  # the arrays, and the bytes made of them
            written = await self._offload(write)
        messages = partial(as_grpc.predict_from_proto, spec, body, written)
        await self._observe("Predict", servable_id, signature_name, messages, len(body))
        return Answer(written, servable_id.version, PROTOBUF)

    async def classify(self, found: Route, request: HttpRequest, body: Buffer, counted: Request) -> Answer:
        return await self._infer(classify_examples, encode_classify, "Classify", found, request, body, counted)

    async def regress(self, found: Route, request: HttpRequest, body: Buffer, counted: Request) -> Answer:
        return await self._infer(regress_examples, encode_regress, "Regress", found, request, body, counted)

    async def _infer(
        self,
        infer: Any,
        encode: Callable[[Any], bytes],
        api: str,
        found: Route,
        request: HttpRequest,
        body: Buffer,
        counted: Request,
    ) -> Answer:
        if len(body) >= LARGE_MIXED_BODY_BYTES:
            request.reserve(_MEMORY_OF_JSON * len(body))
        nearby = self._offload if len(body) >= LARGE_MIXED_BODY_BYTES else here
        asked = await nearby(partial(decode_examples, body))
        asked_spec = replace(found.spec, signature_name=asked.signature_name)
        answer = await infer(
            self._core,
            asked_spec,
            asked.input,
            check_method_name=self._options.enable_signature_method_name_check,
            deadline=self._deadline(),
            on_run=partial(self._note_run, found, api),
        )
        spec = answer.response.model_spec
        counted.version, counted.signature_name = str(spec.version.value), spec.signature_name
        written = await nearby(partial(encode, answer.response.result))
        messages = partial(as_grpc.examples, asked_spec, asked.input, answer.response)
        servable_id = ServableId(spec.name, spec.version.value)
        await self._observe(api, servable_id, spec.signature_name, messages, len(body))
        return Answer(written, spec.version.value)

    async def _observe(
        self,
        api: str,
        servable_id: ServableId,
        signature_name: str,
        messages: Callable[[], as_grpc.Messages],
        size: int,
    ) -> None:
        """Of what has been answered: the `messages`, of some `size`, are made only where they are wanted."""
        if self._observer is not None and self._observer.picks(servable_id.name):
            made = await (self._offload if size >= LARGE_BODY_BYTES else here)(messages)
            self._observer.answered(api, servable_id, signature_name, *made)

    def _deadline(self) -> float | None:
        seconds = self._options.timeout_seconds
        return asyncio.get_running_loop().time() + seconds if seconds > 0 else None

    def _note_run(self, found: Route, api: str, micros: float) -> None:
        """Of a model that has run, so that its name is nothing that clients made up."""
        self._metrics.runtime_latency.labels(found.label, api, _RUNTIME).add(micros)

    def _note(self, found: Route, prediction: Prediction, counted: Request) -> None:
        self._note_run(found, "Predict", prediction.runtime_micros)
        counted.version = str(prediction.servable_id.version)
        counted.signature_name = prediction.signature_name


class _LookUp:
    """The signatures of a model as they were when this was made, for a thread that must not ask the core."""

    def __init__(self, core: InferenceCore, spec: ModelSpec) -> None:
        self._servable_id: ServableId | None = None
        try:
            self._servable_id, self._signatures = core.signatures(spec)
        except ServingError as error:
            self._error = error

    def signatures(self, signature_name: str) -> Mapping[str, SignatureDef]:
        """In the thread."""
        if self._servable_id is None:
            raise self._error
        return self._signatures

    def still_holds(self, core: InferenceCore, spec: ModelSpec) -> bool:
        """Whether the version that answers now is the same. If there is none any more, its run will say so."""
        now = _LookUp(core, spec)._servable_id
        return now is None or now == self._servable_id
