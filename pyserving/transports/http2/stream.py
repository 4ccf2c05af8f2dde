"""One HTTP/2 stream of a connection: its windows, and how far request and answer have come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from pyserving.messages import Buffer
from pyserving.transports.http2.limits import Limits
from pyserving.transports.http2.message_reader import MessageReader
from pyserving.transports.http2.request_head import RequestHead

if TYPE_CHECKING:
    from pyserving.transports.http2.connection import Connection

NO_ROOM = memoryview(bytearray())


class Stream(ABC):
    """From its HEADERS until both sides have ended it, or one has reset it. What it carries is a call's business."""

    __slots__ = (
        "connection",
        "deadline",
        "has_headers",
        "head",
        "heard_at",
        "id",
        "is_over",
        "receive_window",
        "received",
        "request_ended",
        "send_window",
        "unsent",
    )

    def __init__(self, connection: Connection, stream_id: int, head: RequestHead, deadline: float | None) -> None:
        """`deadline` is in loop time."""
        self.connection = connection
        self.id = stream_id
        self.head = head
        self.deadline = deadline
        self.heard_at = connection.now
        """When the last byte of the request came."""
        self.receive_window = connection.limits.stream_window
        self.received = 0
        """Bytes of the request's DATA."""
        self.request_ended = False
        self.has_headers = False
        """Response headers have been sent."""
        self.send_window = connection.outbox.initial_window
        self.unsent: Unsent | None = None
        self.is_over = False

    @property
    @abstractmethod
    def is_unary(self) -> bool:
        """It ends by itself, so that a server that stops may wait for it."""

    @property
    @abstractmethod
    def wanted_window(self) -> int:
        """How much the peer should be able to send for now; 0: no more than it has credit for."""

    @abstractmethod
    def receive(self, data: memoryview, is_last: bool) -> None:
        """A piece of the request; the memory is only lent. May end the stream."""

    @property
    def room(self) -> memoryview:
        """Memory that the next bytes of the request may be read into, past `receive`; none where that is not done."""
        return NO_ROOM

    def fill(self, size: int, is_last: bool) -> None:  # noqa: B027  nothing is to do where there never is room
        """So many bytes of the request have been read into `room`. May end the stream."""

    @abstractmethod
    def sent(self, has_ended: bool) -> None:
        """Everything that waited for a window is on its way; the end of the stream, too, if it `has_ended`."""

    @abstractmethod
    def over(self) -> None:
        """Both sides are done with the stream, or one has given it up."""


class Unsent:
    """DATA of one stream that waits for a window, and the frame that ends the stream after it."""

    __slots__ = ("_pieces", "_seen_at", "_seen_size", "end", "size")

    def __init__(self) -> None:
        self._pieces: deque[Buffer] = deque()
        self.size = 0
        self.end = b""
        self._seen_size = -1
        self._seen_at = 0.0

    def add(self, piece: Buffer) -> None:
        if piece:
            self._pieces.append(piece)
            self.size += len(piece)

    def take(self, size: int) -> list[Buffer]:
        """The next `size` bytes, of as many as there are."""
        taken: list[Buffer] = []
        self.size -= size
        while size:
            piece = self._pieces[0]
            if len(piece) <= size:
                taken.append(self._pieces.popleft())
                size -= len(piece)
            else:
                view = memoryview(piece)
                taken.append(view[:size])
                self._pieces[0] = view[size:]
                size = 0
        return taken

    def unmoved_since(self, now: float) -> float:
        """When there was another amount of it for the last time, as far as those know who ask this now and then."""
        if self.size != self._seen_size:
            self._seen_size, self._seen_at = self.size, now
        return self._seen_at


def window_for(limits: Limits, reader: MessageReader | None) -> int:
    """Wide once the length of a message is known to need it."""
    missing = reader.missing if reader is not None else 0
    return max(limits.stream_window, min(missing, limits.large_stream_window))
