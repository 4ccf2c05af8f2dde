"""The metrics page over HTTP, where Prometheus looks for it."""

from __future__ import annotations

from typing import Protocol

from pyserving.messages import HttpHandler, HttpRequest, HttpResponse


class Exposes(Protocol):
    """Metrics, as far as their page is concerned."""

    def exposition(self) -> bytes: ...


def handler(metrics: Exposes, path: str) -> HttpHandler:
    """Serves the page at exactly `path`, whatever the method. As http_server.cc, a query is an error."""

    def page(request: HttpRequest) -> HttpResponse | None:
        if request.path != path:
            return None
        if request.tail:
            sentence = f"Unexpected path: {request.target}. Should be {path}"
            return HttpResponse(400, sentence.encode(), "text/plain")
        return HttpResponse(200, metrics.exposition(), "text/plain")

    return page
