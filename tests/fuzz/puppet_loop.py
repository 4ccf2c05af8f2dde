"""An event loop and a socket that do nothing by themselves: whole connections run in memory, at a script's pace."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any


class PuppetLoop(asyncio.AbstractEventLoop):
    """Callbacks, timers and tasks; callbacks run in `run_ready`, and the clock stands still but for `advance`."""

    def __init__(self) -> None:
        self.troubles: list[dict[str, Any]] = []
        """What was said to the loop's exception handler: nothing, when all is well."""
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[asyncio.TimerHandle] = []
        self._now = 0.0

    def run_ready(self) -> None:
        """Everything that is due, and what comes of it."""
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()

    def advance(self, seconds: float) -> None:
        """Timers run in their order, each at its time."""
        end = self._now + seconds
        while self._timers and self._timers[0].when() <= end:
            timer = heapq.heappop(self._timers)
            self._now = max(self._now, timer.when())
            if not timer.cancelled():
                self._ready.append(timer)
                self.run_ready()
        self._now = end

    # What asyncio and the transport ask of a loop

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked for by TimerHandle; a cancelled timer is passed over when its time has come."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coroutine: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        return asyncio.Task(coroutine, loop=self, **more)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.troubles.append(context)


class PuppetTransport(asyncio.Transport):
    """A socket whose other side reads everything at once, or nothing while it `is_stuck`."""

    def __init__(self, loop: PuppetLoop, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self.written = bytearray()
        """All that was sent so far."""
        self.is_stuck = False
        self.is_reading = True
        self.is_lost = False
        self._is_closing = False
        self._loop = loop
        self._protocol = protocol
        self._high = 1 << 16
        self._buffered = 0
        self._is_paused = False
        self._said_eof = False

    def unstick(self) -> None:
        self.is_stuck = False
        self._buffered = 0
        if self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()
        if self._is_closing:
            self._lose()

    def hang_up(self) -> None:
        """The peer is gone."""
        self.abort()
        self._loop.run_ready()

    # asyncio.Transport

    def write(self, data: Any) -> None:
        assert not self._said_eof, "a write after the end was said"
        if self._is_closing:
            return
        self.written += data
        if self.is_stuck:
            self._buffered += len(data)
            if self._buffered > self._high and not self._is_paused:
                self._is_paused = True
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def get_write_buffer_size(self) -> int:
        return self._buffered

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._said_eof = True

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._buffered:
                self._lose()

    def abort(self) -> None:
        self._is_closing = True
        self._lose()

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._loop.call_soon(self._protocol.connection_lost, None)
