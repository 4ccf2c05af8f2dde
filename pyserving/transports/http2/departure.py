"""How a connection comes to its end without losing a call: a warning, then the last stream's number, then quiet."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

from pyserving.errors import Code
from pyserving.transports.http2 import frames
from pyserving.transports.http2.errors import ErrorCode

if TYPE_CHECKING:
    from pyserving.transports.http2.connection import Connection

_SHUTTING_DOWN = "The server is shutting down"
_LAST_CALLS_SECONDS = 1.0
"""How long the answer to the PING may take after which we take no new calls."""
_PING = b"drained?"


class _Phase(Enum):
    STAYING = "calls are taken"
    ANNOUNCED = "the peer was asked to begin no more; what it sent before it read that is still taken"
    FINAL = "no calls are taken"
    LEAVING = "our last word is said, and nothing the peer says matters any more"


class Departure:
    """Where its connection stands on the way out."""

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport
        self._phase = _Phase.STAYING
        self.is_final = False
        """The peer knows which of its streams we do not take."""
        self.is_leaving = False
        self._ends_streams = False
        self._last_calls: asyncio.TimerHandle | None = None

    def drain(self, *, ends_streams: bool) -> None:
        """Finish what has begun and leave; streaming calls are not waited for if `ends_streams`."""
        self._ends_streams |= ends_streams
        connection = self._connection
        if not connection.patience.has_greeted:
            self.leave()
        elif self._phase is _Phase.FINAL:
            self._leave_when_quiet()
        elif self._phase is _Phase.STAYING:
            self._become(_Phase.ANNOUNCED)
            connection.outbox.put(frames.goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR))
            connection.outbox.put(frames.frame(frames.PING, 0, 0, _PING))
            self._last_calls = connection.loop.call_later(_LAST_CALLS_SECONDS, self._take_no_more_calls)

    def on_pong(self, payload: bytes) -> None:
        """A PING of ours came back: if it is the one behind the GOAWAY, the peer has read that."""
        if payload == _PING and self._phase is _Phase.ANNOUNCED:
            self._take_no_more_calls()

    def _take_no_more_calls(self) -> None:
        self._forget_timer()
        if self._phase is _Phase.ANNOUNCED:
            self._become(_Phase.FINAL)
            self._connection.outbox.put(frames.goaway(self._connection.last_id, ErrorCode.NO_ERROR))
            self._leave_when_quiet()

    def stream_ended(self) -> None:
        if self._phase is _Phase.FINAL:
            self._leave_when_quiet()

    def _leave_when_quiet(self) -> None:
        streams = self._connection.streams
        if self._ends_streams and not any(stream.is_unary for stream in streams.values()):
            self._end_calls()
        if not streams and not self._connection.promised:
            self.leave()

    def _end_calls(self) -> None:
        for stream in list(self._connection.streams.values()):
            if stream.unsent is None or not stream.unsent.end:
                self._connection.finish(stream, Code.UNAVAILABLE, _SHUTTING_DOWN)

    def cut_off(self) -> None:
        """End all calls, and leave."""
        self._end_calls()
        self.leave()

    def leave(self, *, lingers: bool = False) -> None:
        """Send what can be sent, and close; `lingers`: wait a little for the peer to read it."""
        if self._phase is _Phase.LEAVING:
            return
        self._become(_Phase.LEAVING)
        self._forget_timer()
        connection = self._connection
        connection.patience.leaving_since = connection.loop.time()
        connection.outbox.finish()
        if lingers:
            if self._transport.can_write_eof():  # not over TLS
                self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()

    def lost(self) -> None:
        """The socket is closed."""
        self._become(_Phase.LEAVING)
        self._forget_timer()

    def _become(self, phase: _Phase) -> None:
        self._phase = phase
        self.is_final = phase is _Phase.FINAL
        self.is_leaving = phase is _Phase.LEAVING

    def _forget_timer(self) -> None:
        if self._last_calls is not None:
            self._last_calls.cancel()
            self._last_calls = None
