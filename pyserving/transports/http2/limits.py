"""What a peer may take: sizes, counts, rates and waiting times. Wide enough for every honest client."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are in bytes, times in seconds; infinity is no limit."""

    max_receive_message: float = math.inf
    max_open_message: float = 64 << 10
    """To a method that anybody may call at any time, with no token and however much is in flight."""
    max_send_message: float = math.inf
    max_concurrent_streams: int = 1024
    max_header_list: int = 16 << 10
    """As gRPC's."""
    max_header_block: int = 64 << 10
    """Bytes of HEADERS and CONTINUATION frames of one request; beyond, the connection ends."""
    max_frame: int = 1 << 20
    """Of DATA. A large frame costs no more to read than a small one."""
    stream_window: int = 4 << 20
    large_stream_window: int = 16 << 20
    """Once the length of a message is known to need it."""
    connection_window: int = 16 << 20
    max_held: int = 1 << 30
    """Per connection: of bodies that are not complete yet, and answers that are not sent yet; `Admission` limits the
    sum over all."""
    max_unsent: int = 1 << 20
    """Answers of one connection that wait for its client to read; beyond, nothing more is read from it."""
    resets_per_second: float = 500.0
    resets_at_once: float = 5000.0
    """Streams that end early, by either side's doing; not those that a peer gives up after some waiting."""
    idle_frames_per_second: float = 1000.0
    idle_frames_at_once: float = 10_000.0
    """Frames that bring no call further: PING, SETTINGS, PRIORITY, empty DATA, unknown types."""
    handshake_timeout: float = 20.0
    """For the preface and the first SETTINGS."""
    stall_timeout: float = 60.0
    """How long a request, or the reading of our answers, may stand still."""
    linger: float = 2.0
    """How long a peer that was told of its error may go on sending, so that it comes to read it."""
    keepalive_time: float = 7200.0
    keepalive_timeout: float = 20.0
    max_connection_age: float = math.inf
    max_connection_age_grace: float = math.inf
    max_connection_idle: float = math.inf

    def max_message(self, *, is_open: bool) -> float:
        """Of a request; `is_open` as `max_open_message` has it."""
        return min(self.max_receive_message, self.max_open_message) if is_open else self.max_receive_message

    @property
    def tick(self) -> float:
        """Seconds between two looks at the clock that keep all of these times to within a quarter."""
        times = (
            self.handshake_timeout,
            self.stall_timeout,
            self.linger,
            self.keepalive_time,
            self.keepalive_timeout,
            self.max_connection_age,
            self.max_connection_age_grace,
            self.max_connection_idle,
        )
        return max(min(times) / 4, 0.01)


class Allowance:
    """So many at once, and so many a second after that."""

    __slots__ = ("_at_once", "_left", "_per_second", "_then")

    def __init__(self, at_once: float, per_second: float, now: float) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._left = at_once
        self._then = now

    def spend(self, now: float, amount: float = 1.0) -> bool:
        """False when it is used up."""
        self._left = min(self._at_once, self._left + (now - self._then) * self._per_second) - amount
        self._then = now
        return self._left >= 0.0
