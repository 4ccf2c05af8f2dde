"""One HTTP connection: answers in the order of the requests, patience with slow clients, and a tidy end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from time import perf_counter
from typing import Any, Protocol, cast

from pyserving.errors import ServingError
from pyserving.messages import HttpResponse
from pyserving.transports.busy_poll import BusyPoll
from pyserving.transports.http1 import answers
from pyserving.transports.http1.limits import Limits
from pyserving.transports.http1.reader import END_OF_HEAD, Arrival, Phase, RequestReader
from pyserving.transports.http1.request_head import Heads, RequestHead
from pyserving.transports.http2.eager import begin

_log = logging.getLogger(__name__)
_JOINED_BYTES = 64 << 10
"""Bodies up to this size are copied behind their head, for one packet less."""
_HIGH_WATER_BYTES = 64 << 10
"""What a client may leave unread without being counted, and with the next answer being written."""
_TURN_SECONDS = 2e-3
"""Of answers to one client that has sent many requests; others have their turn in between."""


class Service(Protocol):
    """What a connection asks of its server, or of a fake of it."""

    limits: Limits
    heads: Heads
    receive: memoryview
    """The memory that all connections read into, each in its turn."""
    busy_poll: BusyPoll

    def answer(self, arrival: Arrival) -> HttpResponse | Coroutine[Any, Any, HttpResponse]: ...

    def quick_answer(self, head: RequestHead, body: bytes) -> HttpResponse | None: ...

    def refusal(self, why: int | ServingError) -> HttpResponse: ...

    def date(self) -> bytes: ...

    def hold(self, size: int) -> None: ...

    def hold_anyway(self, size: int) -> None: ...

    def let_go(self, size: int) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """Reads ahead while a request is answered, but answers one at a time. An answer that needs no waiting is on its
    way when the reading of its request returns, and has cost no task."""

    def __init__(
        self, service: Service, on_open: Callable[[Connection], None], on_lost: Callable[[Connection], None]
    ) -> None:
        self._service = service
        self._limits = service.limits
        self._on_open = on_open
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._held = 0
        self._reader = RequestReader(service.limits, service.heads, self._hold)
        self._task: asyncio.Task[HttpResponse] | None = None
        self._answered: Arrival | None = None  # by the task
        self._next_turn: asyncio.Handle | None = None  # when more of what has come in is answered
        self._space: memoryview | None = None
        self._is_writable = True
        self._is_reading = True
        self._draining = False
        self._client_is_done = False
        self._leaving = False
        self._leave_at: float | None = None
        self._heard_at = self._loop.time()
        self._unsent_bytes = 0
        self._unsent_since = 0.0
        self._unsent_held = 0

    def drain(self) -> None:
        """Answer what has begun to come in, then close."""
        self._draining = True
        if self._task is None and self._is_between_requests and not self._leaving:
            self._leave(0.0)

    @property
    def _is_between_requests(self) -> bool:
        return not self._reader.arrivals and self._reader.phase is Phase.BETWEEN

    def abort(self) -> None:
        self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._on_open(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._on_lost(self)
        self.closed.set_result(None)
        self._leaving = True
        self._reader.arrivals.clear()
        self._let_go(self._held)
        self._count_unsent(0)
        if self._task is not None:
            self._task.cancel()
        if self._next_turn is not None:
            self._next_turn.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        # buffer_updated follows before any other connection asks.
        self._space = None if self._leaving else self._reader.space()
        return self._service.receive if self._space is None else self._space

    def buffer_updated(self, nbytes: int) -> None:
        if self._leaving:
            return  # only so that the client is not told of a reset before it has read our answer
        self._service.busy_poll.arrived()
        reader = self._reader
        was_in_head = reader.phase is Phase.HEAD
        if self._space is None:
            data = bytes(self._service.receive[:nbytes])
            if self._task is None and reader.is_at_rest and (data := self._answer_known(data)) == b"":
                self._heard_at = self._loop.time()
                return
            reader.feed(data)
        else:
            self._space = None
            reader.filled(nbytes)
        if not (was_in_head and reader.phase is Phase.HEAD):  # a byte now and then does not buy a head more time
            self._heard_at = self._loop.time()
        self._answer_all()

    def eof_received(self) -> bool:
        """True keeps our side open: a client may say that it has asked everything, and still wait for answers."""
        self._client_is_done = True
        return self._is_busy and self._transport.can_write_eof()  # TLS ends both ways at once

    def pause_writing(self) -> None:
        self._is_writable = False
        self._note_unsent()
        self._count_unsent(self._unsent_bytes)

    def resume_writing(self) -> None:
        self._is_writable = True
        self._count_unsent(0)
        self._answer_all()

    # Requests and answers

    @property
    def _is_busy(self) -> bool:
        """With answers; what comes in waits."""
        return self._task is not None or self._next_turn is not None or not self._is_writable

    def _answer_all(self) -> None:
        """Go on with what has come in, as far as that needs no waiting."""
        arrivals, turn_ends = self._reader.arrivals, 0.0
        while arrivals and not (self._is_busy or self._leaving):
            self._answer(arrivals.popleft())
            if arrivals:
                now = perf_counter()
                turn_ends = turn_ends or now + _TURN_SECONDS
                if now >= turn_ends:
                    self._next_turn = self._loop.call_soon(self._take_turn)
        if not self._leaving:
            self._read_on()

    def _take_turn(self) -> None:
        self._next_turn = None
        self._answer_all()

    def _answer_known(self, data: bytes) -> bytes:
        """Answer requests that begin like earlier ones, as far as that takes no waiting; what is left."""
        service, start = self._service, 0
        while self._is_writable and not (self._draining or self._leaving):
            end = data.find(END_OF_HEAD, start) + len(END_OF_HEAD)
            head = service.heads.get(data[start:end])
            if head is None:
                break
            whole = end + (head.content_length or 0)
            response = service.quick_answer(head, data[end:whole]) if whole <= len(data) else None
            if response is None:
                break
            self._send(head, response)
            start = whole
        return data[start:]

    def _answer(self, arrival: Arrival) -> None:
        if arrival.held:
            self._let_go(arrival.held)
        if arrival.refusal:
            self._send(arrival.head, self._service.refusal(arrival.refusal), self._limits.linger_seconds)
            return
        answer = self._service.answer(arrival)
        begun = answer if isinstance(answer, HttpResponse) else begin(answer, self._loop)
        if isinstance(begun, HttpResponse):
            self._send(arrival.head, begun)
        else:
            self._answered = arrival
            self._task = begun
            begun.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[HttpResponse]) -> None:
        arrival, self._answered, self._task = self._answered, None, None
        if task.cancelled() or self._leaving:
            return
        assert arrival is not None
        self._heard_at = self._loop.time()
        self._send(arrival.head, task.result())
        self._answer_all()

    def _send(self, head: RequestHead, response: HttpResponse, linger_seconds: float = 0.0) -> None:
        keep_alive = head.keep_alive and not response.closes and not (self._draining and self._is_between_requests)
        is_head = head.method == "HEAD"
        try:
            text = answers.head_of(
                response, head.version, keep_alive=keep_alive, is_head=is_head, date=self._service.date()
            )
        except ValueError as error:  # a header that no connection can carry
            _log.error("An answer could not be sent", exc_info=error)
            self._transport.abort()
            return
        if is_head:
            self._transport.write(text)
        elif len(response.body) <= _JOINED_BYTES:
            self._transport.write(b"".join((text, response.body)))
        else:
            self._transport.writelines((text, response.body))
        self._service.busy_poll.answered()
        if not keep_alive:
            self._leave(linger_seconds)

    def _read_on(self) -> None:
        """Settle what is to be read next, now that all has been answered that can be."""
        if self._client_is_done and not self._is_busy:
            self._leave(0.0)
            return
        if self._reader.expects_continue and self._task is None:
            self._reader.expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._is_busy and self._reader.arrivals:
            if self._is_reading:
                self._is_reading = False
                self._transport.pause_reading()
        elif not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()

    def _leave(self, linger_seconds: float) -> None:
        """Send what is written and close; after lingering, for a client that may be in the middle of sending."""
        self._leaving = True
        self._let_go(self._held)
        self._note_unsent()
        if linger_seconds and not self._client_is_done:
            if not self._is_reading:
                self._transport.resume_reading()
            if self._transport.can_write_eof():  # not over TLS
                with suppress(OSError):  # asyncio's, when the client has gone
                    self._transport.write_eof()
            self._leave_at = self._loop.time() + linger_seconds
        else:
            self._transport.close()

    # Memory of bodies that are on their way

    def _hold(self, size: int) -> None:
        self._service.hold(size)
        self._held += size

    def _let_go(self, size: int) -> None:
        self._held -= size
        self._service.let_go(size)

    def _count_unsent(self, size: int) -> None:
        """So much of our answers waits for the client to read."""
        self._service.hold_anyway(size - self._unsent_held)
        self._unsent_held = size

    # Patience

    def check(self, now: float) -> None:
        """Called every now and then: end what has stood still for too long."""
        limits = self._limits
        if self._leave_at is not None and now >= self._leave_at:
            self._transport.abort()
        elif self._leaving or not self._is_writable:
            if self._transport.get_write_buffer_size() < self._unsent_bytes:  # it reads slowly, but it reads
                self._note_unsent()
            elif now - self._unsent_since >= limits.stall_timeout_seconds:
                self._transport.abort()
        elif self._task is not None:
            return
        elif self._reader.phase is Phase.BETWEEN:
            if now - self._heard_at >= limits.idle_timeout_seconds:
                self._leave(0.0)
        elif now - self._heard_at >= limits.stall_timeout_seconds:
            self._reader.refuse(408)
            self._answer_all()

    def _note_unsent(self) -> None:
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._unsent_since = self._loop.time()
