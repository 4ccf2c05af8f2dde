"""What operators ask over HTTP: is the process alive, can it take requests, and how are a model's versions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import unquote

from pyserving.errors import Code, InvalidArgument, NotFound, ServingError
from pyserving.frontends.http_status import error_response
from pyserving.messages import HttpHandler, HttpRequest, HttpResponse
from pyserving.types import ManagerState, ModelSpec, ServableState

ModelStatus = Callable[[ModelSpec], Sequence[ServableState]]
"""The known versions that a spec means, newest first; NotFound when there are none."""

# As http_rest_api_handler.cc: all fixed words in any case; a name may be left out, and is then missed.
_STATUS_PATH = re.compile(
    r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?(?P<metadata>/metadata)?",
    re.IGNORECASE,
)
_MAX_VERSION = 2**63 - 1
_MAX_VERSION_DIGITS = 19


def handler(
    model_status: ModelStatus,
    configured_models: Callable[[], Iterable[str]],
    unready: Callable[[], str | None],
) -> HttpHandler:
    """Serves /healthz, /readyz, /readyz/MODEL and GET /v1/models/MODEL[/versions/N|/labels/L].

    `unready` gives the reason why the server as a whole takes no requests (it starts, it drains), or None.
    """

    async def page(request: HttpRequest) -> HttpResponse | None:
        if request.method not in ("GET", "HEAD"):
            return None
        if request.path == "/healthz":
            return HttpResponse(200, b"ok\n", "text/plain")
        if request.path == "/readyz":
            return _readiness(model_status, configured_models(), unready())
        if request.path.startswith("/readyz/"):
            return _model_readiness(model_status, configured_models(), unready(), request.path)
        return _status_page(model_status, request) if request.method == "GET" else None

    return page


def _readiness(model_status: ModelStatus, models: Iterable[str], unready: str | None) -> HttpResponse:
    """200 when every model has an AVAILABLE version, 503 otherwise; both say how each model is."""
    states = {name: _unready_model(model_status, name) for name in models}
    ready = unready is None and not any(states.values())
    page: dict[str, object] = {"ready": ready}
    if unready is not None:
        page["reason"] = unready
    page["models"] = {name: reason or ManagerState.AVAILABLE.name for name, reason in sorted(states.items())}
    return HttpResponse(200 if ready else 503, json.dumps(page, indent=1).encode() + b"\n")


def _model_readiness(model_status: ModelStatus, models: Iterable[str], unready: str | None, path: str) -> HttpResponse:
    name = unquote(path.removeprefix("/readyz/"))
    if name not in models:
        return error_response(NotFound(f"Could not find any versions of model {name}"))
    return _readiness(model_status, [name], unready)


def _unready_model(model_status: ModelStatus, name: str) -> str | None:
    """Why the model takes no requests; None when it does."""
    try:
        states = model_status(ModelSpec(name))
    except NotFound:
        return "no version found"
    if any(state.manager_state is ManagerState.AVAILABLE for state in states):
        return None
    newest = states[0]
    because = f": {newest.health.status}" if newest.health is not None else ""
    return f"version {newest.id.version} is {newest.manager_state.name}{because}"


def _status_page(model_status: ModelStatus, request: HttpRequest) -> HttpResponse | None:
    # TensorFlow Serving matches the path with its query: `?x` is a part of the name.
    target = f"{request.path}?{request.query}" if request.query else request.path
    match = _STATUS_PATH.fullmatch(target)
    if match is None or match["metadata"] == "/metadata":  # in other letters it asks for the status
        return None
    version = (match["version"] or "").lstrip("0")
    if len(version) > _MAX_VERSION_DIGITS or int(version or 0) > _MAX_VERSION:
        return HttpResponse(400)  # nobody reads out that error, there or here
    if match["name"] is None:
        return error_response(InvalidArgument("Missing model name in request."))
    try:
        return HttpResponse(200, _status_json(model_status(_model_spec(match, version))))
    except ServingError as error:
        return error_response(error)


def _model_spec(match: re.Match[str], version: str) -> ModelSpec:
    return ModelSpec(
        unquote(match["name"], errors="surrogateescape"),
        int(version or 0) if match["version"] else None,
        unquote(match["label"], errors="surrogateescape") if match["label"] else None,
    )


def _status_json(states: Sequence[ServableState]) -> bytes:
    """As protobuf's JSON printer writes a GetModelStatusResponse."""
    page = {
        "model_version_status": [
            {
                "version": str(state.id.version),
                "state": state.manager_state.name,
                "status": {
                    "error_code": (state.health.code if state.health else Code.OK).name,
                    "error_message": state.health.message if state.health else "",
                },
            }
            for state in states
        ]
    }
    text = json.dumps(page, indent=1, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
    return text.encode("utf-8", "replace") + b"\n"
