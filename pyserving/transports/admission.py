"""How many calls, and bytes of their bodies, may be in the server at once. All transports share one of these."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pyserving.errors import ResourceExhausted

THREADPOOL_EXHAUSTED = "Server Threadpool Exhausted"
"""What gRPC's synchronous C++ server says when --grpc_max_threads is reached."""


class Admission:
    """Counts calls in and out; a call over a limit is shed with RESOURCE_EXHAUSTED before anything is done for it."""

    def __init__(
        self,
        max_calls: int,
        max_bytes: int,
        *,
        too_many_calls: str | None = None,
        observer: Callable[[int, int], None] | None = None,
        on_shed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`too_many_calls`: the sentence for a call over `max_calls`. `observer(calls, bytes)` is told every change,
        `on_shed(reason)` of every refusal: `calls` or `bytes`."""
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._too_many_calls = too_many_calls or (
            f"Too many calls in flight: the limit is {max_calls} (--max_inflight_calls)"
        )
        self._observer = observer
        self._on_shed = on_shed
        self._calls = 0
        self._bytes = 0
        self._held = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def calls(self) -> int:
        """Calls admitted and not yet answered."""
        return self._calls

    def is_idle(self) -> bool:
        """All that were admitted are answered, and nothing larger is on its way in or out."""
        return self._calls == 0 and self._held == 0

    @property
    def bytes(self) -> int:
        """Bytes of those calls' bodies."""
        return self._bytes

    @property
    def held(self) -> int:
        """Bytes of bodies that are not complete yet, and of answers that are not sent yet."""
        return self._held

    def has_room(self, size: int) -> bool:
        """Whether a call with a body of `size` bytes would be let in."""
        return self._calls < self._max_calls and self._bytes + self._held + size <= self._max_bytes

    def enter(self, size: int) -> None:
        """Count a call with a body of `size` bytes in; every `enter` that does not raise is followed by one `leave`."""
        if self._calls >= self._max_calls:
            self._on_shed("calls")
            raise ResourceExhausted(self._too_many_calls)
        self._check_bytes(size)
        self._count(1, size)

    def leave(self, size: int) -> None:
        self._count(-1, -size)

    def grow(self, size: int) -> None:
        """Count `size` more bytes for a call that is in; they leave with it."""
        self._check_bytes(size)
        self._count(0, size)

    def hold(self, size: int) -> None:
        """Count memory of a call that is not admitted yet, or not any more: of a body on its way in, an answer on its
        way out. ResourceExhausted as for `enter`; `let_go` gives it back."""
        self._check_bytes(size)
        self._held += size

    def hold_anyway(self, size: int) -> None:
        """As `hold`, of memory that has been taken already: what comes next is refused if it is too much."""
        self._held += size

    def let_go(self, size: int) -> None:
        self._held -= size

    async def idle(self) -> None:
        """Return when no admitted call is left."""
        await self._idle.wait()

    def _check_bytes(self, size: int) -> None:
        taken = self._bytes + self._held
        if taken + size > self._max_bytes:
            self._on_shed("bytes")
            raise ResourceExhausted(
                f"Too many bytes in flight: {taken} and {size} more exceed the limit of {self._max_bytes}"
                " (--max_inflight_bytes)"
            )

    def _count(self, calls: int, size: int) -> None:
        self._calls += calls
        self._bytes += size
        if self._calls == 0:
            self._idle.set()
        else:
            self._idle.clear()
        if self._observer is not None:
            self._observer(self._calls, self._bytes)


class Lease:
    """One admitted call: what it counts for, until it is released."""

    __slots__ = ("_admission", "_size")

    def __init__(self, admission: Admission, size: int) -> None:
        """ResourceExhausted when a limit is reached."""
        admission.enter(size)
        self._admission = admission
        self._size = size

    def reserve(self, size: int) -> None:
        """Count further bytes; ResourceExhausted when there are no more to have."""
        self._admission.grow(size)
        self._size += size

    def release(self) -> None:
        self._admission.leave(self._size)
