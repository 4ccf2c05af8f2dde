"""An HTTP port: accepts connections and brings each request to the first handler that answers it."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from email.utils import formatdate
from types import TracebackType
from typing import Any

from pyserving.errors import FailedPrecondition, ServingError
from pyserving.messages import Authenticate, HttpHandler, HttpResponse, QuickPosts
from pyserving.transports.acceptor import OPEN_DOOR, Acceptor, Door
from pyserving.transports.admission import Admission
from pyserving.transports.busy_poll import NEVER, BusyPoll
from pyserving.transports.http1 import answers
from pyserving.transports.http1.connection import Connection
from pyserving.transports.http1.limits import Limits
from pyserving.transports.http1.reader import Arrival
from pyserving.transports.http1.request_head import Heads, RequestHead
from pyserving.transports.reception import Reception

_BACKLOG = 1024
_RECEIVE_BYTES = 256 << 10
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
        authenticate: Authenticate | None = None,
        quick_posts: QuickPosts = lambda request: None,
        busy_poll: BusyPoll = NEVER,
    ) -> None:
        """An empty host is every interface, IPv6 and IPv4; port 0 lets the system choose.

        `authenticate` is asked when a head has come in; where it refuses, the connection ends. `quick_posts` gives, for
        POSTs that keep coming, who is asked before the handlers are.
        """
        self.port = port
        self._host = host
        self._reception = Reception(handlers, error_response, admission, answers.page(404))
        self.limits = limits or Limits()
        self.heads = Heads(authenticate, quick_posts)
        self.receive = memoryview(bytearray(_RECEIVE_BYTES))
        self.busy_poll = busy_poll
        self.hold = admission.hold
        self.hold_anyway = admission.hold_anyway
        self.let_go = admission.let_go
        self._door = door
        self.connections: set[Connection] = set()
        """Those that are open."""
        self._date = b""
        self._date_second = 0
        self._sweep_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> HttpServer:
        """FailedPrecondition, naming the port, when it cannot be had."""
        try:
            listener = _listen(self._host, self.port)
        except OSError as error:
            where = f"{self._host or 'localhost'}:{self.port}"
            raise FailedPrecondition(f"Failed to start HTTP Server at {where}: {error.strerror}") from error
        self.port = listener.getsockname()[1]
        patience = self.limits.handshake_timeout_seconds
        self._acceptor = Acceptor("HTTP", self._connect, self.connections, self._door, patience)
        self._acceptor.open([listener])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(0.0)

    async def drain(self, grace_seconds: float) -> None:
        """As Reception's."""
        await self._reception.drain(grace_seconds)

    async def stop(self, grace_seconds: float) -> None:
        """Accept nobody, answer what has begun to come in, close idle connections; cut off the rest after the grace."""
        self._acceptor.close()
        for connection in tuple(self.connections):
            connection.drain()
        await self._all_closed(grace_seconds)
        await self._acceptor.abandon_handshakes()
        for connection in tuple(self.connections):
            connection.abort()
        await self._all_closed(None)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()

    async def _all_closed(self, timeout: float | None) -> None:
        if self.connections:
            await asyncio.wait([connection.closed for connection in self.connections], timeout=timeout)

    def authenticate_anew(self) -> None:
        """Requests to come, on whatever connection."""
        self.heads.forget()

    # What connections ask

    def answer(self, arrival: Arrival) -> HttpResponse | Coroutine[Any, Any, HttpResponse]:
        """The answer, or who will have it; neither raises."""
        head = arrival.head
        return self._reception.answer(head.method, head.path, head.tail, head.headers, arrival.body)

    def quick_answer(self, head: RequestHead, body: bytes) -> HttpResponse | None:
        """The answer to a request with a head that is kept, if it takes no waiting; else nothing has been done."""
        if head.quick_post is None:
            return None
        return self._reception.quick_answer(head.quick_post, head.path, body)

    def refusal(self, why: int | ServingError) -> HttpResponse:
        """The connection's last words."""
        return answers.page(why) if isinstance(why, int) else replace(self._reception.error_response(why), closes=True)

    def date(self) -> bytes:
        """The Date line, made once a second."""
        second = int(time.time())
        if second != self._date_second:
            self._date_second, self._date = second, f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._date

    # Connections

    def _connect(self) -> Connection:
        return Connection(self, self._opened, self.connections.discard)

    def _opened(self, connection: Connection) -> None:
        self.connections.add(connection)
        self._acceptor.has_opened(connection)
        if self._sweep_timer is None:
            self._sweep_later()

    def _sweep_later(self) -> None:
        # One timer for all connections, so that a busy one never touches a timer.
        self._sweep_timer = asyncio.get_running_loop().call_later(self.limits.tick_seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = None
        now = asyncio.get_running_loop().time()
        for connection in tuple(self.connections):
            connection.check(now)
        if self.connections:
            self._sweep_later()


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
