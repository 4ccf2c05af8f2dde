"""What an HTTP client may take: sizes and waiting times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """TensorFlow Serving has none of these; they are wide enough for every honest client."""

    max_head_bytes: int = 64 << 10
    """Request line and headers together."""
    max_body_bytes: int = 1 << 30
    """As sent; bodies in flight, of all connections together, are the admission's to limit."""
    idle_timeout_seconds: float = 3600.0
    """How long a connection may stay open between two requests."""
    stall_timeout_seconds: float = 60.0
    """How long a request's head may take, and how long its body or the reading of our answer may stand still."""
    handshake_timeout_seconds: float = 20.0
    """Of TLS."""
    linger_seconds: float = 2.0
    """How long a client that was refused may go on sending, so that it comes to read why."""

    @property
    def tick_seconds(self) -> float:
        """Between two looks at the clock that keep all of these times to within a quarter."""
        return max(min(self.idle_timeout_seconds, self.stall_timeout_seconds, self.linger_seconds) / 4, 0.005)
