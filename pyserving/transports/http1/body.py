"""A request's body on its way in: the network's bytes go to where they will be read from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyserving.messages import Buffer

_FIRST_HELD_BYTES = 16 << 10
_LEAST_SPACE_BYTES = 64 << 10
_SOON_BYTES = 4 << 20
"""Which holds a body of a usual size; taken when half a mebibyte has arrived, so that little is to be copied."""


class Body:
    """Memory is taken, and held, as bytes arrive, whatever length is claimed."""

    __slots__ = ("_hold", "_limit", "_memory", "filled", "held")

    def __init__(self, limit: int, hold: Callable[[int], None]) -> None:
        """At most `limit` bytes. `hold` is told of memory that is written to, and may raise. What nothing has come for
        yet counts no more than what has come: the system has not given it either, and else a few bytes that claim to
        be large bodies would leave no room for those of others."""
        self._limit = limit
        self._hold = hold
        self._memory = memoryview(b"")
        self.filled = 0
        self.held = 0
        """Bytes that `hold` was told of."""

    def space(self) -> memoryview:
        """Memory for the next bytes; not more of it than there are bytes to come."""
        if len(self._memory) - self.filled < _LEAST_SPACE_BYTES:
            self._reserve(self.filled + _LEAST_SPACE_BYTES)
        return self._memory[self.filled :]

    def fill(self, size: int) -> None:
        """So many bytes lie in the `space` that was asked for last."""
        self.filled += size
        self._hold_for(self.filled)

    def add(self, piece: Buffer) -> None:
        end = self.filled + len(piece)
        self._hold_for(end)
        self._reserve(end)
        self._memory[self.filled : end] = piece
        self.filled = end

    def content(self) -> Buffer:
        """What has come: the memory it lies in, or bytes when it is little."""
        content = self._memory[: self.filled]
        return bytes(content) if self.filled < _LEAST_SPACE_BYTES else content

    def _hold_for(self, filled: int) -> None:
        """Twice what has come, so as not to be asked for each piece, and no more than the limit."""
        if filled > self.held:
            held = min(self._limit, max(_FIRST_HELD_BYTES, 2 * filled))
            self._hold(held - self.held)
            self.held = held

    def _reserve(self, size: int) -> None:
        size = min(size, self._limit)
        if size <= len(self._memory):
            return
        capacity = min(self._limit, max(min(8 * size, _SOON_BYTES), 2 * size))
        memory: memoryview = np.empty(capacity, np.uint8).data  # which, other than a bytearray, nobody fills with zeros
        memory[: self.filled] = self._memory[: self.filled]
        self._memory = memory
