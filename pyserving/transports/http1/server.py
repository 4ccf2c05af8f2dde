"""An HTTP port: accepts connections and brings each request to the first handler that answers it."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from types import TracebackType

from pyserving.errors import FailedPrecondition, Internal, ServingError
from pyserving.messages import HttpHandler, HttpRequest, HttpResponse
from pyserving.transports.acceptor import OPEN_DOOR, Acceptor, Door
from pyserving.transports.admission import Admission
from pyserving.transports.http1 import answers
from pyserving.transports.http1.connection import Connection
from pyserving.transports.http1.limits import Limits

_log = logging.getLogger(__name__)
_BACKLOG = 1024
_NO_IPV6 = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class HttpServer:
    """Serves while the context is open. Handlers are asked in order; when none answers, it is the 404 page.

    `error_response` words the errors that handlers raise. POSTs pass through `admission`: they are what runs models;
    pages about the server's state answer always.
    """

    def __init__(
        self,
        handlers: Sequence[HttpHandler],
        host: str,
        port: int,
        *,
        error_response: Callable[[ServingError], HttpResponse],
        admission: Admission,
        limits: Limits | None = None,
        door: Door = OPEN_DOOR,
    ) -> None:
        """An empty host is every interface, IPv6 and IPv4; port 0 lets the system choose."""
        self.port = port
        self._host = host
        self._handlers = tuple(handlers)
        self._error_response = error_response
        self._admission = admission
        self._limits = limits or Limits()
        self._door = door
        self.connections: set[Connection] = set()
        """Those that are open."""
        self._date = ""
        self._date_second = 0

    async def __aenter__(self) -> HttpServer:
        """FailedPrecondition, naming the port, when it cannot be had."""
        try:
            listener = _listen(self._host, self.port)
        except OSError as error:
            where = f"{self._host or 'localhost'}:{self.port}"
            raise FailedPrecondition(f"Failed to start HTTP Server at {where}: {error.strerror}") from error
        self.port = listener.getsockname()[1]
        patience = self._limits.handshake_timeout_seconds
        self._acceptor = Acceptor("HTTP", self._connect, self.connections, self._door, patience)
        self._acceptor.open([listener])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(0.0)

    async def stop(self, grace_seconds: float) -> None:
        """Accept nobody, answer what has begun to come in, close idle connections; cut off the rest after the grace."""
        self._acceptor.close()
        for connection in self.connections:
            connection.drain()
        await self._all_closed(grace_seconds)
        await self._acceptor.abandon_handshakes()
        for connection in self.connections:
            connection.abort()
        await self._all_closed(None)

    async def _all_closed(self, timeout: float | None) -> None:
        if self.connections:
            await asyncio.wait([connection.closed for connection in self.connections], timeout=timeout)

    def _connect(self) -> Connection:
        return Connection(self._answer, self._limits, self._now, self._opened, self.connections.discard)

    def _opened(self, connection: Connection) -> None:
        self.connections.add(connection)
        self._acceptor.has_opened(connection)

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        try:
            if request.method != "POST":
                return await self._ask_handlers(request)
            self._admission.enter(len(request.body))
            try:
                return await self._ask_handlers(request)
            finally:
                self._admission.leave(len(request.body))
        except ServingError as error:
            return self._error_response(error)
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return self._error_response(Internal("Internal error; the server's log has the details"))

    async def _ask_handlers(self, request: HttpRequest) -> HttpResponse:
        for handler in self._handlers:
            response = await handler(request)
            if response is not None:
                return response
        return answers.page(404)

    def _now(self) -> str:
        """The Date header, made once a second."""
        second = int(time.time())
        if second != self._date_second:
            self._date_second, self._date = second, formatdate(second, usegmt=True)
        return self._date


def _listen(host: str, port: int) -> socket.socket:
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_IPV6:
            raise
    return socket.create_server(("", port), backlog=_BACKLOG)
