"""HTTP handlers as an ASGI 3 application, for whatever server a program has already.

Status lines, dates, error pages for malformed requests and timeouts are that server's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import quote

from pyserving.errors import FailedPrecondition, ServingError
from pyserving.messages import HttpResponse
from pyserving.transports.reception import Reception

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
NOT_FOUND = HttpResponse(404, b"Not Found\n", "text/plain")
_TOO_LARGE = HttpResponse(413, b"Request Entity Too Large\n", "text/plain")
_IN_PATHS = "/-._~!$&'()*+,;=:@"


class AsgiApplication:
    """Opens what it serves at lifespan startup, and closes it at shutdown; a program that mounts it does so with
    `running()`, since a mounted application hears nothing of lifespans. Where it is mounted is no part of its paths."""

    def __init__(
        self, serving: Callable[[], AbstractAsyncContextManager[Reception]], *, max_body_bytes: int = 1 << 30
    ) -> None:
        self._serving = serving
        self._max_body_bytes = max_body_bytes
        self._reception: Reception | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Requests can be answered while this is open."""
        try:
            async with self._serving() as self._reception:
                yield
        finally:
            self._reception = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await _send(send, await self._answer(scope, receive))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.running())
            except ServingError as error:
                await send({"type": "lifespan.startup.failed", "message": error.message})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive) -> HttpResponse:
        if self._reception is None:
            raise FailedPrecondition("Not running: the ASGI server must support lifespan, or running() be open")
        method, path, headers = scope["method"], _path(scope), _headers(scope["headers"])
        if refusal := self._reception.refusal(method, path, headers):
            return refusal
        body = bytearray()
        async for piece in _pieces(receive):
            body += piece
            if len(body) > self._max_body_bytes:
                return _TOO_LARGE
        query = scope.get("query_string", b"").decode("latin-1")
        answer = self._reception.answer(method, path, f"?{query}" if query else "", headers, bytes(body))
        return answer if isinstance(answer, HttpResponse) else await answer


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    """Of the body. A client that has gone needs no answer: what it has sent stands for all it would have."""
    is_more = True
    while is_more:
        message = await receive()
        is_more = message.get("more_body", False)
        yield message.get("body", b"")


def _path(scope: Scope) -> str:
    """Below the place where the application is mounted, percent-escapes as they were sent if the server tells."""
    raw = scope.get("raw_path")
    path = raw.decode("latin-1").partition("?")[0] if raw is not None else quote(scope["path"], safe=_IN_PATHS)
    root: str = quote(scope.get("root_path", ""), safe=_IN_PATHS)
    return path[len(root) :] if root and path.startswith(root) else path


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


async def _send(send: Send, response: HttpResponse) -> None:
    headers = [(b"content-type", response.content_type.encode()), (b"content-length", b"%d" % len(response.body))]
    headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(response.body)})
