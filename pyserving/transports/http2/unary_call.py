"""A unary gRPC call on an HTTP/2 stream: one message to a method, and its answer back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from pyserving.errors import Code, Internal, ResourceExhausted, ServingError
from pyserving.messages import Buffer, CallContext, Later, Method, QuickMethod, reserve_nothing
from pyserving.transports.admission import Admission, Lease
from pyserving.transports.grpc_status import status_of
from pyserving.transports.http2 import compression
from pyserving.transports.http2.eager import begin
from pyserving.transports.http2.message_reader import LARGE_BYTES, PREFIX, Message, MessageReader
from pyserving.transports.http2.request_head import RequestHead
from pyserving.transports.http2.stream import NO_ROOM, Stream, window_for

if TYPE_CHECKING:
    from pyserving.transports.http2.connection import Connection

_DEADLINE_MARGIN_SECONDS = 0.1
"""Front ends keep deadlines themselves, and say it better; this is for one that does not."""


class UnaryCall(Stream):
    """One request message, one answer. Its method has run to its end, if it need not wait, when `receive` returns."""

    __slots__ = ("_admission", "_expiry", "_held", "_message", "_method", "_quick", "_reader", "_task")

    def __init__(
        self,
        connection: Connection,
        stream_id: int,
        head: RequestHead,
        deadline: float | None,
        method: Method,
        admission: Admission | None,
        quick: QuickMethod | None = None,
    ) -> None:
        """Without an admission the call is always let in, with a small message. `quick` is asked before `method` is."""
        super().__init__(connection, stream_id, head, deadline)
        self._method = method
        self._admission = admission
        self._quick = quick
        self._reader: MessageReader | None = None
        self._message: Message | None = None
        self._held = 0
        self._task: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def is_unary(self) -> bool:
        return True

    @property
    def _max_message(self) -> float:
        return self.connection.limits.max_message(is_open=self._admission is None)

    def receive(self, data: memoryview, is_last: bool) -> None:
        if is_last and self._reader is None and PREFIX.size <= len(data) < LARGE_BYTES:  # a small request, in one frame
            is_compressed, size = PREFIX.unpack_from(data)
            if not is_compressed and size == len(data) - PREFIX.size <= self.connection.limits.max_receive_message:
                self._take(bytes(data[PREFIX.size :]))
                return
        try:
            self._read(data)
            if is_last:
                self._end()
        except ServingError as error:
            self.connection.finish(self, error.code, error.message)

    @property
    def room(self) -> memoryview:
        return self._reader.room if self._reader is not None else NO_ROOM

    def fill(self, size: int, is_last: bool) -> None:
        assert self._reader is not None  # there was room
        try:
            if (message := self._reader.fill(size)) is not None:
                self._keep(message)
            if is_last:
                self._end()
        except ServingError as error:
            self.connection.finish(self, error.code, error.message)

    def _end(self) -> None:
        """The request has been received."""
        message = self._complete()
        if message.is_compressed:
            self._run(self._serve_compressed(message.body))
        else:
            self._let_go()  # and counted by its admission, in the same breath
            self._take(message.body)

    def _read(self, data: memoryview) -> None:
        if self._reader is None:
            self._reader = MessageReader(self._max_message, self._hold, self.connection.data_offset)
        for message in self._reader.feed(data):
            self._keep(message)

    def _keep(self, message: Message) -> None:
        if self._message is not None:
            raise Internal("More than one request message for a unary method")
        self._message = message

    def _complete(self) -> Message:
        if self._reader is None or not self._reader.is_between_messages:
            raise Internal("The request ends within a message")
        if self._message is None:
            raise Internal("No request message for a unary method")
        message, self._message = self._message, None
        return message

    def _hold(self, size: int) -> None:
        if self.is_over:  # while a thread decompresses
            raise ResourceExhausted("The call is over")
        self.connection.hold(size)
        self._held += size

    def _let_go(self) -> None:
        self.connection.let_go(self._held)
        self._held = 0

    @property
    def wanted_window(self) -> int:
        return window_for(self.connection.limits, self._reader)

    # Running

    def _run(self, serving: Coroutine[Any, Any, None]) -> None:
        loop = self.connection.loop
        task = begin(serving, loop)
        if task is not None:
            self._task = task
            if self.deadline is not None:
                self._expiry = loop.call_at(self.deadline + _DEADLINE_MARGIN_SECONDS, self._expire)

    def _take(self, body: Buffer) -> None:
        """The request is there."""
        if self._quick is not None and self._admission is not None and self._admission.has_room(len(body)):
            try:
                answer = self._quick(body, self.deadline)
            except Exception as error:
                self.connection.finish(self, *status_of(error, self.head.path))
                return
            if isinstance(answer, Later):
                answer.place, answer.deliver = self, _deliver
                return
            if answer is not None:
                self.answer(answer)
                return
        self._run(self._serve(body))

    async def _serve_compressed(self, compressed: Buffer) -> None:
        try:
            body = await compression.opened(compressed, self.head.encoding, self._max_message, self._hold)
        except ServingError as error:
            self._ended()
            self.connection.finish(self, error.code, error.message)
            return
        self._let_go()
        await self._serve(body)

    async def _serve(self, body: Buffer) -> None:
        lease, reserve = None, reserve_nothing
        answer, status = b"", (Code.OK, "")
        try:
            if self._admission is not None:
                lease = Lease(self._admission, len(body))
                reserve = lease.reserve
            answer = await self._method(body, CallContext(self.deadline, self.head.metadata, reserve))
        except asyncio.CancelledError:
            status = Code.CANCELLED, ""
        except Exception as error:
            status = status_of(error, self.head.path)
        if lease is not None:
            lease.release()
        self._ended()
        if status[0] is Code.OK:
            self.answer(answer)
        else:
            self.connection.finish(self, *status)

    def answer(self, answer: bytes) -> None:
        """The method's. Nothing when the stream is over already."""
        if len(answer) > self.connection.limits.max_send_message:
            sizes = f"({len(answer)} vs. {self.connection.limits.max_send_message})"
            self.connection.finish(self, Code.RESOURCE_EXHAUSTED, f"Sent message larger than max {sizes}")
            return
        if self.is_over or self.connection.answer_at_once(self, answer):
            return
        try:
            self._hold(len(answer))
        except ServingError as error:
            self.connection.finish(self, error.code, error.message)
            return
        self.connection.answer(self, answer)

    def _ended(self) -> None:
        """The method is done, and with it what would end it."""
        self._task = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _expire(self) -> None:
        self.connection.finish(self, Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def sent(self, has_ended: bool) -> None:
        self.connection.close(self)

    def over(self) -> None:
        self._let_go()
        self._reader = self._message = None
        if self._task is not None:
            self.connection.cancel(self._task)
        self._ended()


def _deliver(later: Later, answer: bytes | Exception) -> None:
    call: UnaryCall = later.place
    if isinstance(answer, Exception):
        call.connection.finish(call, *status_of(answer, call.head.path))
    else:
        call.answer(answer)
