"""An HTTP conversation in memory: a server's connection, with a test in the place of the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pyserving.errors import ServingError
from pyserving.frontends.http_status import error_response
from pyserving.messages import HttpHandler, HttpResponse, QuickPosts
from pyserving.transports.admission import Admission
from pyserving.transports.http1 import HttpServer, Limits
from pyserving.transports.http1.connection import Connection


class FakeTransport(asyncio.Transport):
    """Keeps what is written until somebody reads it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.writes: list[bytes] = []
        self.news = asyncio.Event()
        self.is_closed = False
        self.has_said_all = False
        self.is_reading_paused = False
        self.unread_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        self.news.set()

    def writelines(self, list_of_data: Sequence[bytes | bytearray | memoryview]) -> None:  # type: ignore[override]
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self.has_said_all = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.news.set()
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    abort = close


class Conversation:
    """One connection to an HttpServer that listens nowhere."""

    def __init__(
        self,
        handlers: Sequence[HttpHandler],
        *,
        error_response: Callable[[ServingError], HttpResponse] = error_response,
        admission: Admission | None = None,
        limits: Limits | None = None,
        quick_posts: QuickPosts = lambda request: None,
    ) -> None:
        self.admission = admission or Admission(100, 1 << 30)
        self.server = HttpServer(
            handlers,
            "",
            0,
            error_response=error_response,
            admission=self.admission,
            limits=limits,
            quick_posts=quick_posts,
        )
        self.server.date = lambda: b"Date: now\r\n"  # type: ignore[method-assign]
        self.connection = Connection(self.server, lambda connection: None, lambda connection: None)
        self.transport = FakeTransport(self.connection)
        self.connection.connection_made(self.transport)

    def say(self, data: bytes, piece: int = 1 << 30) -> None:
        """Send bytes, so many at a time."""
        while data:
            space = self.connection.get_buffer(-1)
            size = min(len(data), len(space), piece)
            space[:size] = data[:size]
            data = data[size:]
            self.connection.buffer_updated(size)

    async def heard(self) -> bytes:
        """The next that the server says, as soon as it does."""
        while not self.transport.writes and not self.transport.is_closed:
            self.transport.news.clear()
            await self.transport.news.wait()
        said = b"".join(self.transport.writes)
        self.transport.writes.clear()
        return said

    async def ask(self, data: bytes) -> bytes:
        self.say(data)
        return await self.heard()
