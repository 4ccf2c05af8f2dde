"""One HTTP connection: answers in the order of the requests, patience with slow clients, and a tidy end."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from pyserving.messages import HttpRequest, HttpResponse
from pyserving.transports.http1 import answers
from pyserving.transports.http1.limits import Limits
from pyserving.transports.http1.reader import Arrival, Phase, RequestReader

_log = logging.getLogger(__name__)
_JOINED_BYTES = 64 << 10
"""Bodies up to this size are copied behind their head, for one packet less."""


class Connection(asyncio.Protocol):
    """Reads ahead while a request is answered, but answers one at a time."""

    def __init__(
        self,
        answer: Callable[[HttpRequest], Awaitable[HttpResponse]],
        limits: Limits,
        date: Callable[[], str],
        on_open: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self._answer = answer
        self._limits = limits
        self._date = date
        self._on_open = on_open
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._reader = RequestReader(limits)
        self._waiting: deque[Arrival] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._draining = False
        self._client_is_done = False
        self._leaving = False
        self._unsent_bytes = 0
        self._phase: Phase | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def drain(self) -> None:
        """Answer what has begun to come in, then close."""
        self._draining = True
        if self._task is None and self._reader.phase is Phase.BETWEEN:
            self._leave(0.0)

    def abort(self) -> None:
        self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._on_open(self)
        self._be_patient()

    def connection_lost(self, error: Exception | None) -> None:
        self._on_lost(self)
        self.closed.set_result(None)
        self._leaving = True
        self._waiting.clear()
        self._writable.set()
        if self._task is not None:
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            return  # only so that the client is not told of a reset before it has read our answer
        self._take(self._reader.feed(data))

    def eof_received(self) -> bool:
        """True keeps our side open: a client may say that it has asked everything, and still wait for answers."""
        self._client_is_done = True
        return self._task is not None and self._transport.can_write_eof()  # TLS ends both ways at once

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Requests and answers

    def _take(self, arrivals: list[Arrival]) -> None:
        self._waiting.extend(arrivals)
        if self._waiting and self._task is None:
            self._task = self._loop.create_task(self._answer_all())
            self._task.add_done_callback(self._answering_ended)
        elif self._waiting:
            self._transport.pause_reading()
        self._continue_if_due()
        self._be_patient()

    def _continue_if_due(self) -> None:
        if self._reader.expects_continue and self._task is None:
            self._reader.expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _answer_all(self) -> None:
        while self._waiting:
            arrival = self._waiting.popleft()
            self._send(arrival, await self._response_to(arrival))
            if self._leaving:
                return
            if not self._writable.is_set():
                self._be_patient()
                await self._writable.wait()
        self._task = None
        if self._client_is_done:
            self._leave(0.0)
            return
        self._transport.resume_reading()
        self._continue_if_due()
        self._be_patient()

    def _answering_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("An answer could not be sent", exc_info=task.exception())
            self._transport.abort()

    async def _response_to(self, arrival: Arrival) -> HttpResponse:
        if arrival.request is None:
            return answers.page(arrival.refusal)
        return await self._answer(arrival.request)

    def _send(self, arrival: Arrival, response: HttpResponse) -> None:
        is_last = answers.asks_to_close(response) or (self._draining and not self._waiting)
        keep_alive = arrival.keep_alive and not is_last
        head = answers.head_of(
            response, arrival.version, keep_alive=keep_alive, is_head=arrival.is_head, date=self._date()
        )
        body = b"" if arrival.is_head else response.body
        if len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        if not keep_alive:
            self._leave(self._limits.linger_seconds if arrival.request is None else 0.0)

    def _leave(self, linger_seconds: float) -> None:
        """Send what is written and close; after lingering, for a client that may be in the middle of sending."""
        self._leaving = True
        self._task = None
        self._unsent_bytes = self._transport.get_write_buffer_size()
        if linger_seconds and not self._client_is_done:
            self._transport.resume_reading()
            if self._transport.can_write_eof():  # not over TLS
                self._transport.write_eof()
            self._set_deadline(self._loop.time() + linger_seconds)
        else:
            self._transport.close()
            self._set_deadline(self._loop.time() + self._limits.stall_timeout_seconds)

    # Patience

    def _be_patient(self) -> None:
        """Set the time by which the client must do something; called whenever it has, or we have."""
        if self._leaving:
            return
        phase = self._reader.phase if self._task is None else None
        if phase is Phase.HEAD and self._phase is Phase.HEAD:
            return  # the whole head has one deadline: a byte now and then does not move it
        self._phase = phase
        if phase is None and self._writable.is_set():
            self._set_deadline(math.inf)
        elif phase is Phase.BETWEEN:
            self._set_deadline(self._loop.time() + self._limits.idle_timeout_seconds)
        else:
            self._unsent_bytes = self._transport.get_write_buffer_size()
            self._set_deadline(self._loop.time() + self._limits.stall_timeout_seconds)

    def _set_deadline(self, when: float) -> None:
        # A timer that rings too early is set again when it rings, so that a busy connection hardly ever touches it.
        self._deadline = when
        if when < (self._timer.when() if self._timer is not None else math.inf):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._timer_rang)

    def _timer_rang(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self._set_deadline(self._deadline)
        else:
            self._run_out_of_patience()

    def _run_out_of_patience(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if 0 < unsent < self._unsent_bytes:  # it reads slowly, but it reads
            self._unsent_bytes = unsent
            self._set_deadline(self._loop.time() + self._limits.stall_timeout_seconds)
        elif self._leaving or self._task is not None:
            self._transport.abort()
        elif self._phase is Phase.BETWEEN:
            self._leave(0.0)
        else:
            self._take([self._reader.refuse(408)])
