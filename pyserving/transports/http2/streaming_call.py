"""A streaming gRPC call on an HTTP/2 stream: messages both ways, each side at its own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from pyserving.errors import Code, Internal, ResourceExhausted, ServingError
from pyserving.messages import Buffer, CallContext, StreamMethod
from pyserving.transports.grpc_status import status_of
from pyserving.transports.http2 import compression
from pyserving.transports.http2.message_reader import Message, MessageReader
from pyserving.transports.http2.request_head import RequestHead
from pyserving.transports.http2.stream import Stream, window_for

if TYPE_CHECKING:
    from pyserving.transports.http2.connection import Connection

_QUEUED_OVERHEAD = 128
"""Bytes that a queued message takes besides its own."""


class StreamingCall(Stream, AsyncIterator[Buffer]):
    """Messages both ways, each side at its own pace: the peer has credit for what the method has taken."""

    __slots__ = ("_expiry", "_held", "_max_message", "_method", "_news", "_owed", "_queue", "_reader", "_room", "_task")

    def __init__(
        self,
        connection: Connection,
        stream_id: int,
        head: RequestHead,
        deadline: float | None,
        method: StreamMethod,
        max_message: float,
    ) -> None:
        """`max_message` bounds the bytes of each message that comes in."""
        super().__init__(connection, stream_id, head, deadline)
        self._method = method
        self._max_message = max_message
        self._reader = MessageReader(max_message, self._hold, connection.data_offset)
        self._queue: deque[Message] = deque()
        self._held = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = connection.loop.create_task(self._converse())
        self._expiry = None if deadline is None else connection.loop.call_at(deadline, self._expire)

    @property
    def is_unary(self) -> bool:
        return False

    def receive(self, data: memoryview, is_last: bool) -> None:
        try:
            for message in self._reader.feed(data):
                self._hold(_QUEUED_OVERHEAD)
                self._queue.append(message)
            if is_last and not self._reader.is_between_messages:
                raise Internal("The request ends within a message")
        except ServingError as error:
            self.connection.finish(self, error.code, error.message)
            return
        self._news.set()

    def _hold(self, size: int) -> None:
        if self.is_over:  # while a thread decompresses
            raise ResourceExhausted("The call is over")
        self.connection.hold(size)
        self._held += size

    def _let_go(self, size: int) -> None:
        self.connection.let_go(size)
        self._held -= size

    @property
    def wanted_window(self) -> int:
        return 0 if self._queue else window_for(self.connection.limits, self._reader)

    # Handed to the method

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self

    async def __anext__(self) -> Buffer:
        while not self._queue:
            if self.request_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        message = self._queue.popleft()
        self._let_go(_QUEUED_OVERHEAD)
        body = await self._opened(message.body) if message.is_compressed else message.body
        self._let_go(len(body))
        if not self._queue and not self.request_ended:
            self.connection.top_up(self)
        return body

    async def _opened(self, compressed: Buffer) -> bytes:
        body = await compression.opened(compressed, self.head.encoding, self._max_message, self._hold)
        self._let_go(len(compressed))
        return body

    # Running

    async def _converse(self) -> None:
        status = Code.OK, ""
        try:
            generator = cast(
                "AsyncGenerator[bytes, None]", self._method(self, CallContext(self.deadline, self.head.metadata))
            )
            async with aclosing(generator) as answers:  # closed with the call, not by the garbage collector
                async for answer in answers:
                    await self._send(answer)
        except asyncio.CancelledError:
            status = Code.CANCELLED, ""
        except Exception as error:
            status = status_of(error, self.head.path)
        if self._task is not None:  # nobody has ended the call for it
            self._task = None
            self.connection.finish(self, *status)

    def _expire(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self.connection.finish(self, Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
            self.connection.cancel(task)

    async def _send(self, answer: bytes) -> None:
        self._room.clear()
        if not self.connection.send(self, answer):
            await self._room.wait()

    def sent(self, has_ended: bool) -> None:
        self._room.set()
        if has_ended:
            self.connection.close(self)

    def over(self) -> None:
        self._let_go(self._held)
        self._queue.clear()
        if self._expiry is not None:
            self._expiry.cancel()
        if self._task is not None:
            self.connection.cancel(self._task)
            self._task = None
