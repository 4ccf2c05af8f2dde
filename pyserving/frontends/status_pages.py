"""What operators and their machines ask over HTTP: is the process alive, and can it take requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import unquote

from pyserving.errors import NotFound
from pyserving.frontends.http_status import error_response
from pyserving.messages import HttpHandler, HttpRequest, HttpResponse
from pyserving.types import ManagerState, ModelSpec, ServableState

ModelStatus = Callable[[ModelSpec], Sequence[ServableState]]
"""The known versions that a spec means, newest first; NotFound when there are none."""


def handler(
    model_status: ModelStatus,
    configured_models: Callable[[], Iterable[str]],
    unready: Callable[[], str | None],
) -> HttpHandler:
    """Serves /healthz, /readyz and /readyz/MODEL.

    `unready` gives the reason why the server as a whole takes no requests (it starts, it drains), or None.
    """

    def page(request: HttpRequest) -> HttpResponse | None:
        if request.method not in ("GET", "HEAD"):
            return None
        if request.path == "/healthz":
            return HttpResponse(200, b"ok\n", "text/plain")
        if request.path == "/readyz":
            return _readiness(model_status, configured_models(), unready())
        if request.path.startswith("/readyz/"):
            return _model_readiness(model_status, configured_models(), unready(), request.path)
        return None

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
