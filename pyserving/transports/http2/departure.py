"""How a connection comes to its end without losing a call: a warning, then the last stream's number, then quiet."""

from __future__ import annotations

import asyncio
from contextlib import suppress
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
        self._lingers_until = 0.0

    def drain(self, *, ends_streams: bool) -> None:
        """Finish what has begun and leave; streaming calls are not waited for if `ends_streams`."""
        self._ends_streams |= ends_streams
        connection = self._connection
        if self.is_leaving:
            return
        if not connection.patience.has_greeted:
            self._close()
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

    def leave(self, *, is_failure: bool = False) -> None:
        """Send what can be sent, say that this was all, and wait a little for the peer to close, or to fall silent.

        Whatever came for a socket that is closed, be it credit for the last answer, would have the system drop what it
        has not sent yet. One that was at fault is not waited for beyond the time in which it can read so.
        """
        if self._phase is _Phase.LEAVING:
            return
        connection = self._connection
        self._say_last_words()
        self._lingers_until = 0.0 if is_failure else connection.loop.time() + connection.limits.stall_timeout
        if self._transport.can_write_eof():  # not over TLS
            with suppress(OSError):  # asyncio's, when the peer has gone
                self._transport.write_eof()
        self._transport.resume_reading()

    def heard(self) -> None:
        """The peer goes on sending after our last word, and so may be reading."""
        now = self._connection.loop.time()
        if now < self._lingers_until:
            self._connection.patience.leaving_since = now

    def _close(self) -> None:
        """Without waiting for who has not begun to talk."""
        self._say_last_words()
        self._transport.close()

    def _say_last_words(self) -> None:
        self._become(_Phase.LEAVING)
        self._forget_timer()
        self._connection.patience.leaving_since = self._connection.loop.time()
        self._connection.outbox.finish()

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
