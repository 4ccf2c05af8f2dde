"""A request's body on its way in: the network's bytes go to where they will be read from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyserving.messages import Buffer

_LEAST_SPACE_BYTES = 64 << 10
_SOON_BYTES = 4 << 20
"""What bodies of a usual size have all their bytes in, taken when half a mebibyte has arrived and little is to be copied."""


class Body:
    """Memory is taken as bytes arrive, whatever length is claimed."""

    __slots__ = ("_hold", "_limit", "_memory", "filled")

    def __init__(self, limit: int, hold: Callable[[int], None]) -> None:
        """At most `limit` bytes. `hold` is told of memory before it is taken, and may raise."""
        self._limit = limit
        self._hold = hold
        self._memory = memoryview(b"")
        self.filled = 0

    @property
    def taken(self) -> int:
        """Bytes of memory."""
        return len(self._memory)

    def space(self) -> memoryview:
        """Memory for the next bytes; not more of it than there are bytes to come."""
        if len(self._memory) - self.filled < _LEAST_SPACE_BYTES:
            self._reserve(self.filled + _LEAST_SPACE_BYTES)
        return self._memory[self.filled :]

    def add(self, piece: Buffer) -> None:
        end = self.filled + len(piece)
        self._reserve(end)
        self._memory[self.filled : end] = piece
        self.filled = end

    def content(self) -> Buffer:
        """What has come: the memory it lies in, or bytes when it is little."""
        content = self._memory[: self.filled]
        return bytes(content) if self.filled < _LEAST_SPACE_BYTES else content

    def _reserve(self, size: int) -> None:
        size = min(size, self._limit)
        if size <= len(self._memory):
            return
        capacity = min(self._limit, max(min(8 * size, _SOON_BYTES), 2 * size))
        self._hold(capacity - len(self._memory))
        memory: memoryview = np.empty(capacity, np.uint8).data  # which, other than a bytearray, nobody fills with zeros
        memory[: self.filled] = self._memory[: self.filled]
        self._memory = memory
