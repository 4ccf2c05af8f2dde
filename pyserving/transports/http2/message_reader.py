"""gRPC's messages out of the DATA of one request: each body is copied once, or received where it will be read."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple, TypeAlias

import numpy as np

from pyserving.errors import Internal, ResourceExhausted
from pyserving.messages import Buffer

DataOffset: TypeAlias = Callable[[memoryview, int], int | None]
"""Given the first bytes of a message and its length, where in it the data lies that should be on a 64-byte boundary;
None when that cannot be told."""

PREFIX = Struct(">BI")
_ALIGNMENT = 64  # on which TensorFlow takes an array as it is; others it copies
_FIRST_BYTES = 1 << 20
_FIRST_HELD_BYTES = 16 << 10
LARGE_BYTES = 16 << 10
"""From here on a message is aligned and handed out as the memory it was read into; a smaller one as `bytes`."""


class Message(NamedTuple):
    body: Buffer
    is_compressed: bool


class MessageReader:
    """Fed with DATA, it gives messages. Memory is taken, and held, as bytes arrive, whatever length is claimed."""

    __slots__ = ("_body", "_data_offset", "_filled", "_held", "_hold", "_max_bytes", "_prefix", "_size")

    def __init__(self, max_bytes: float, hold: Callable[[int], None], data_offset: DataOffset) -> None:
        """`hold` is told of memory that is written to, and may refuse; it is let go by whoever takes the messages.

        Memory that nothing has come for yet counts no more than what has come: the system has not given it either, and
        else a few bytes here and there, which claim to be large messages, would leave no room for those of others.
        """
        self._max_bytes = max_bytes
        self._hold = hold
        self._data_offset = data_offset
        self._prefix = b""
        self._size = 0
        self._filled = 0
        self._held = 0
        self._body = memoryview(b"")

    @property
    def missing(self) -> int:
        """Bytes that the message begun last still lacks, as far as is known."""
        return self._size - self._filled

    @property
    def is_between_messages(self) -> bool:
        return not self._prefix

    def feed(self, data: memoryview) -> list[Message]:
        """The messages that are complete with these bytes. ResourceExhausted for one over the limits."""
        messages: list[Message] = []
        while True:
            if len(self._prefix) < PREFIX.size:
                lacking = PREFIX.size - len(self._prefix)
                self._prefix += data[:lacking]
                data = data[lacking:]
                if len(self._prefix) < PREFIX.size:
                    return messages
                self._begin()
            piece = data[: self._size - self._filled]
            if piece:
                self._add(piece)
                data = data[len(piece) :]
            if self._filled < self._size:
                return messages
            messages.append(self._finish())

    @property
    def room(self) -> memoryview:
        """Memory that the next bytes of the message may be read into; none before it has begun, nor while more has yet
        to be taken."""
        return self._body[self._filled : self._size]

    def fill(self, size: int) -> Message | None:
        """So many bytes have been read into `room`; the message, if that is all of it. ResourceExhausted as `feed`."""
        self._filled += size
        if self._filled > self._held:
            self._hold_for(self._filled)
        return self._finish() if self._filled == self._size else None

    def _begin(self) -> None:
        flag, self._size = PREFIX.unpack(self._prefix)
        if flag > 1:
            raise Internal(f"A message begins with {flag}, where 0 or 1 tells whether it is compressed")
        if self._size > self._max_bytes:
            # As grpcio words it.
            raise ResourceExhausted(f"SERVER: Received message larger than max ({self._size} vs. {self._max_bytes})")

    def _add(self, piece: memoryview) -> None:
        end = self._filled + len(piece)
        if end > self._held:
            self._hold_for(end)
        if end > len(self._body):
            self._grow(end, piece)
        self._body[self._filled : end] = piece
        self._filled = end

    def _hold_for(self, filled: int) -> None:
        """Twice what has come, so as not to be asked for each piece; the message's length in the end."""
        held = min(self._size, max(_FIRST_HELD_BYTES, 2 * filled))
        self._hold(held - self._held)
        self._held = held

    def _grow(self, needed: int, piece: memoryview) -> None:
        capacity = min(self._size, max(_FIRST_BYTES, 2 * needed))
        head = self._body[: self._filled] or piece
        offset = self._data_offset(head, self._size) if self._size >= LARGE_BYTES else None
        body = aligned(capacity, offset or 0)
        body[: self._filled] = self._body[: self._filled]
        self._body = body

    def _finish(self) -> Message:
        body: Buffer = self._body if self._size >= LARGE_BYTES else bytes(self._body)
        message = Message(body, bool(self._prefix[0]))
        self._prefix, self._size, self._filled, self._held, self._body = b"", 0, 0, 0, memoryview(b"")
        return message


def aligned(size: int, offset: int) -> memoryview:
    """New memory of `size` bytes, of which the one at `offset` lies on a 64-byte boundary."""
    memory = np.empty(size + _ALIGNMENT, np.uint8)  # which, other than a bytearray, nobody fills with zeros first
    address: int = memory.__array_interface__["data"][0]
    start = -(address + offset) % _ALIGNMENT
    return memory.data[start : start + size]
