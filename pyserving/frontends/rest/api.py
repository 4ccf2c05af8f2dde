"""/v1/models/...: requests to models and questions about them, on top of a core it is handed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Protocol

from pyserving.codec.json.proto_json import encode_metadata, encode_model_status
from pyserving.core import Core, RequestObserver
from pyserving.errors import FailedPrecondition, InvalidArgument, ServingError
from pyserving.frontends import http_status
from pyserving.frontends.rest import compression
from pyserving.frontends.rest.answer import Answer
from pyserving.frontends.rest.inference import Offload, RestInference, RestOptions, here
from pyserving.frontends.rest.model_list import Models, models_json
from pyserving.frontends.rest.quick_predict import Asker
from pyserving.frontends.rest.routes import Endpoint, Route, route
from pyserving.messages import Buffer, HttpRequest, HttpResponse, QuickPost
from pyserving.metrics import Metrics, Request

_LEAST_PACKED_BYTES = 1 << 10
_ORIGINS = ("http://", "https://")
_CORS = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Methods", "POST, GET"))
_CORS_HEADERS = "Access-Control-Allow-Headers"
_PREFLIGHT_TYPE = "text/html; charset=ISO-8859-1"
"""What libevent sends when nobody has said."""
_NO_ORIGIN = "Origin header is missing in CORS preflight"


class ModelsCore(Core, Models, Protocol):
    """ServerCore, or a fake of it."""


class _Wordless(InvalidArgument):
    """An error that TensorFlow Serving answers before it has words for it."""


_Answering = Callable[[Route, HttpRequest], HttpResponse | Coroutine[Any, Any, HttpResponse]]
_Inference = Callable[[Route, HttpRequest, Buffer, Request], Coroutine[Any, Any, Answer]]


class RestApi:
    """An HttpHandler for all targets that begin with `/v1/`. What needs no run of a model is answered at once."""

    def __init__(
        self,
        core: ModelsCore,
        metrics: Metrics,
        options: RestOptions | None = None,
        offload: Offload = here,
        observer: RequestObserver | None = None,
    ) -> None:
        """`observer` hears of what was answered."""
        options = options or RestOptions()
        self._core = core
        self._metrics = metrics
        self._offload = offload
        self._gzip_answers = options.gzip_answers
        self._cors = _cors_headers(options) if options.enable_cors_support else ()
        self._headers = lru_cache(maxsize=128)(self._new_headers)
        self._inference = inference = RestInference(core, metrics, options, offload, observer)
        self._answers: Mapping[Endpoint, _Answering] = {
            Endpoint.PREDICT: self._predict,
            Endpoint.CLASSIFY: partial(self._infer, inference.classify, "classify"),
            Endpoint.REGRESS: partial(self._infer, inference.regress, "regress"),
            Endpoint.STATUS: partial(self._page, self._status),
            Endpoint.METADATA: partial(self._page, self._metadata),
            Endpoint.MODELS: partial(self._page, self._models),
            Endpoint.NAMELESS: partial(self._page, _nameless),
            Endpoint.VERSION_TOO_LARGE: partial(self._page, _version_too_large),
            Endpoint.MALFORMED: partial(self._page, _malformed),
        }

    def __call__(self, request: HttpRequest) -> HttpResponse | Coroutine[Any, Any, HttpResponse] | None:
        """None for other targets."""
        if request.path[:4].lower() != "/v1/":
            return None
        if request.method == "OPTIONS":
            return self._preflight(request)
        found = route(request.method, request.target)
        return self._answers[found.endpoint](found, request)

    def quick_post(self, request: HttpRequest) -> QuickPost | None:
        """As QuickPosts."""
        if self._gzip_answers or not _is_json(request) or request.path[:4].lower() != "/v1/":
            return None
        found = route(request.method, request.target)
        if found.endpoint is not Endpoint.PREDICT:
            return None
        return partial(self._answer_quickly, self._inference.quick_predict.asker(found.spec))

    def error_response(self, error: ServingError) -> HttpResponse:
        """The JSON body with the message."""
        response = http_status.error_response(error, self._cors)
        return replace(response, body=b"") if isinstance(error, _Wordless) else response

    def _new_headers(self, version: int) -> tuple[tuple[str, str], ...]:
        return (*self._cors, ("X-Model-Version", str(version)))

    # What is known without a run

    def _preflight(self, request: HttpRequest) -> HttpResponse:
        origin = request.headers.get("origin", "")
        try:
            with self._metrics.request("", "", "REST"):
                if not any(scheme in origin for scheme in _ORIGINS):
                    raise FailedPrecondition(_NO_ORIGIN)
        except FailedPrecondition as error:
            return HttpResponse(http_status.http_status(error.code), b"", _PREFLIGHT_TYPE, self._cors)
        return HttpResponse(200, b"", _PREFLIGHT_TYPE, self._cors)

    def _page(
        self, make: Callable[[Route, HttpRequest], HttpResponse], found: Route, request: HttpRequest
    ) -> HttpResponse:
        try:
            with self._metrics.request(found.label, "", "REST"):
                return make(found, request)
        except ServingError as error:
            return self.error_response(error)

    def _status(self, found: Route, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, encode_model_status(self._core.model_status(found.spec)), headers=self._cors)

    def _metadata(self, found: Route, request: HttpRequest) -> HttpResponse:
        servable_id, signature_def_map = self._core.metadata(found.spec)
        body = encode_metadata(servable_id, signature_def_map)
        return HttpResponse(200, body, headers=self._headers(servable_id.version))

    def _models(self, found: Route, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, models_json(self._core), headers=self._cors)

    # What runs a model

    def _predict(self, found: Route, request: HttpRequest) -> HttpResponse | Coroutine[Any, Any, HttpResponse]:
        if not self._gzip_answers and _is_json(request):
            try:
                response = self._answer_quickly(self._inference.quick_predict.asker(found.spec), request.body)
            except ServingError as error:
                return self.error_response(error)
            if response is not None:
                return response
        return self._infer(self._inference.predict, "predict", found, request)

    def _answer_quickly(self, ask: Asker, body: Buffer) -> HttpResponse | None:
        answer = ask(body)
        return None if answer is None else HttpResponse(200, answer.body, headers=self._headers(answer.version))

    async def _infer(self, infer: _Inference, api: str, found: Route, request: HttpRequest) -> HttpResponse:
        try:
            with self._metrics.request(found.label, api, "REST") as counted:
                body = request.body
                if "content-encoding" in request.headers:
                    body = await self._unpacked(request)
                answer = await infer(found, request, body, counted)
                response = HttpResponse(200, answer.body, answer.content_type, self._headers(answer.version))
                if self._gzip_answers:
                    response = await self._packed(request, response)
                return response
        except ServingError as error:
            return self.error_response(error)

    # gzip

    async def _unpacked(self, request: HttpRequest) -> Buffer:
        """The body as the client meant it. One that cannot be unpacked counts as empty, as in TensorFlow Serving."""
        if not compression.is_packed(request.headers["content-encoding"]):
            return request.body
        size = compression.unpacked_size(request.body)
        request.reserve(size)
        return await self._offload(partial(compression.unpack, request.body, size))

    async def _packed(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if len(response.body) < _LEAST_PACKED_BYTES:
            return response
        headers = (*response.headers, ("Vary", "Accept-Encoding"))
        if not compression.is_acceptable(request.headers.get("accept-encoding", "")):
            return replace(response, headers=headers)
        body = await self._offload(partial(compression.pack, response.body))
        return replace(response, body=body, headers=(*headers, ("Content-Encoding", "gzip")))


def _is_json(request: HttpRequest) -> bool:
    """As it stands, and as far as its headers say."""
    headers = request.headers
    return "content-encoding" not in headers and "protobuf" not in headers.get("content-type", "")


def _cors_headers(options: RestOptions) -> tuple[tuple[str, str], ...]:
    allowed = "Content-Type, Authorization, X-API-Key" if options.takes_tokens else "Content-Type"
    return (*_CORS, (_CORS_HEADERS, allowed))


def _nameless(found: Route, request: HttpRequest) -> HttpResponse:
    raise InvalidArgument("Missing model name in request.")


def _version_too_large(found: Route, request: HttpRequest) -> HttpResponse:
    raise _Wordless("Failed to convert version: the number is too large")


def _malformed(found: Route, request: HttpRequest) -> HttpResponse:
    raise InvalidArgument(f"Malformed request: {request.method} {request.target}")
