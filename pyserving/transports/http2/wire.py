"""The bytes of one connection into frames, checked for their form; what they mean is the Connection's to know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from pyserving.transports.http2 import frames
from pyserving.transports.http2.connection import Connection
from pyserving.transports.http2.errors import ConnectionFailure, ErrorCode
from pyserving.transports.http2.service import Service

_log = logging.getLogger(__name__)
_MAX_CONTINUATIONS = 64
_MAX_SETTINGS = 64
"""In one frame. There are about ten of them, and each may change every stream's window."""
_HIGH_WATER_BYTES = 1 << 20
_LEAST_IN_PLACE = 16 << 10
"""Bytes that are worth a read of their own, to where they belong."""
_READ_BEFORE_LARGE = 4 << 10
"""What to read first when a large message is likely to come: not much of it, as that has to be copied."""


class ReceiveBuffer:
    """The memory that all connections of a loop read into, each in its turn; what is left over, each keeps itself."""

    def __init__(self, size: int) -> None:
        """`size` must be more than the largest frame that is read as a whole."""
        self.bytes = bytearray(size)
        self.view = memoryview(self.bytes)


class Wire(asyncio.BufferedProtocol):
    """What the event loop talks to."""

    def __init__(
        self, service: Service, receive: ReceiveBuffer, open_wires: set[Wire], on_open: Callable[[Wire], None]
    ) -> None:
        self.connection: Connection
        self._most_at_once = 0
        """Bytes of a DATA frame that may come at the very beginning of a stream."""
        self._service = service
        self._receive = receive
        self._open_wires = open_wires
        self._on_open = on_open
        self._leftover = b""
        self._has_preface = False
        self._block: _Block | None = None
        # The DATA frame that has begun and is not complete.
        self._data_stream = 0
        self._data_left = 0
        self._padding_left = 0
        self._data_is_last = False
        self._is_reading = True
        self._in_place = False
        """The bytes that come next are read to where they belong."""
        self._after_large = False
        """The last bytes that came were the end of DATA read so."""

    @property
    def is_mid_frame(self) -> bool:
        return bool(self._leftover or self._data_left or self._padding_left or self._block)

    @property
    def is_agreed(self) -> bool:
        """A client that comes by TLS has asked for HTTP/2 there, as it must (RFC 9113, 3.2)."""
        tls = self._transport.get_extra_info("ssl_object")
        return tls is None or tls.selected_alpn_protocol() == "h2"

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self.connection = Connection(self._transport, self._service, self._lost)
        limits = self.connection.limits
        self._most_at_once = min(limits.max_frame, limits.stream_window)
        self._open_wires.add(self)
        self._on_open(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.connection.lost()

    def _lost(self, connection: Connection) -> None:
        self._open_wires.discard(self)

    def eof_received(self) -> bool:
        return False  # a client that has closed its side can neither give credit nor take a GOAWAY to heart

    def pause_writing(self) -> None:
        self.connection.outbox.pause()

    def resume_writing(self) -> None:
        self.connection.outbox.resume()
        if not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        # buffer_updated follows before any other connection asks.
        if self._data_left >= _LEAST_IN_PLACE:
            room = self.connection.room(self._data_stream)
            self._in_place = len(room) >= _LEAST_IN_PLACE
            if self._in_place:
                return room[: self._data_left]
        kept = len(self._leftover)
        self._receive.bytes[:kept] = self._leftover
        return self._receive.view[kept : kept + _READ_BEFORE_LARGE if self._after_large else None]

    def buffer_updated(self, nbytes: int) -> None:
        connection = self.connection
        in_place, self._in_place = self._in_place, False
        if connection.departure.is_leaving:
            connection.departure.heard()
            return  # only so that the peer is not told of a reset before it has read our last word
        connection.now = connection.patience.heard_at = connection.loop.time()
        connection.outbox.hold()
        try:
            if in_place:
                self._take_in_place(nbytes)
            else:
                self._after_large = False
                end = len(self._leftover) + nbytes
                consumed = self._read(end)
                self._leftover = bytes(self._receive.view[consumed:end])
        except ConnectionFailure as failure:
            _log.debug("A gRPC connection ends: %s", failure)
            self._leftover = b""
            connection.fail(failure)
        connection.outbox.flush()
        if connection.outbox.unsent > connection.limits.max_unsent and not connection.departure.is_leaving:
            self._is_reading = False
            self._transport.pause_reading()

    # Frames

    def _read(self, end: int) -> int:
        """Take all that is complete before `end`; where the rest begins."""
        i = 0
        if not self._has_preface:
            i = self._read_preface(end)
            if not self._has_preface:
                return i
        buffer, view, connection = self._receive.bytes, self._receive.view, self.connection
        max_frame = connection.limits.max_frame
        while True:
            if self._data_left or self._padding_left:
                i = self._go_on_with_data(i, end)
            if end - i < frames.HEAD_BYTES:
                return i
            if connection.departure.is_leaving:
                return end  # nothing that it says matters any more
            high, low, kind, flags, stream_id = frames.HEAD.unpack_from(buffer, i)
            size = high << 8 | low
            stream_id &= frames.MAX_STREAM_ID
            if size > max_frame:
                raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block.stream_id):
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
            start = i + frames.HEAD_BYTES
            if kind == frames.DATA:
                if flags & frames.PADDED:
                    if size == 0:
                        raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "padded DATA without a padding length")
                    if end == start:
                        return i  # the length of the padding has not come
                i = self._begin_data(flags, stream_id, start, size)
                if self._data_left <= end - i and not self._padding_left:  # as nearly always, the frame is complete
                    stop = i + self._data_left
                    self._data_left = 0
                    connection.on_data(stream_id, view[i:stop], self._data_is_last)
                    i = stop
            elif kind > frames.CONTINUATION:
                connection.on_idle_frame()
                self._skip(size)
                i = start
            elif size > connection.limits.max_header_block:
                raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, f"a frame of {size} bytes that is not DATA")
            elif start + size > end:
                return i
            else:
                i = start + size
                payload = bytes(view[start:i])
                if kind == frames.HEADERS:
                    i += self._on_headers(flags, stream_id, payload, self._whole_data(stream_id, i, end))
                else:
                    self._on_other(kind, flags, stream_id, payload)

    def _whole_data(self, stream_id: int, i: int, end: int) -> memoryview | None:
        """The payload of the next frame if it is all the DATA of a stream, and there already."""
        start = i + frames.HEAD_BYTES
        if start > end:
            return None
        high, low, kind, flags, data_stream = frames.HEAD.unpack_from(self._receive.bytes, i)
        size: int = high << 8 | low
        if kind != frames.DATA or flags != frames.END_STREAM or data_stream != stream_id or start + size > end:
            return None
        if size > self._most_at_once:
            return None  # more than a peer may send: to be refused as such
        return self._receive.view[start : start + size]

    def _read_preface(self, end: int) -> int:
        came = bytes(self._receive.view[: min(end, len(frames.PREFACE))])
        if not frames.PREFACE.startswith(came):
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "not HTTP/2")
        if len(came) < len(frames.PREFACE):
            return 0
        self._has_preface = True
        return len(came)

    # DATA, which may be larger than what is read at a time

    def _begin_data(self, flags: int, stream_id: int, start: int, size: int) -> int:
        """Where the payload begins."""
        if stream_id == 0:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        self._check_greeted()
        is_last = bool(flags & frames.END_STREAM)
        self._data_stream, self._data_left, self._padding_left, self._data_is_last = stream_id, size, 0, is_last
        if flags & frames.PADDED:
            self._padding_left = self._receive.bytes[start]
            self._data_left = size - 1 - self._padding_left
            if self._data_left < 0:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
            start += 1
        self.connection.on_data_head(stream_id, size, self._data_left, is_last)
        if self._data_left == 0 and self._padding_left:
            self._hand_over(start, start)
        return start

    def _go_on_with_data(self, i: int, end: int) -> int:
        if self._data_left:
            stop = min(end, i + self._data_left)
            self._data_left -= stop - i
            if stop > i:
                self._hand_over(i, stop)
            i = stop
        skipped = min(self._padding_left, end - i) if not self._data_left else 0
        self._padding_left -= skipped
        return i + skipped

    def _take_in_place(self, size: int) -> None:
        self._data_left -= size
        self._after_large = not self._data_left
        is_last = self._data_is_last and not self._data_left
        self.connection.on_data_in_place(self._data_stream, size, is_last)

    def _hand_over(self, i: int, stop: int) -> None:
        is_last = self._data_is_last and not self._data_left
        self.connection.on_data(self._data_stream, self._receive.view[i:stop], is_last)

    def _skip(self, size: int) -> None:
        """A frame of a type that we do not know."""
        self._padding_left = size

    # Everything else, which is small

    def _check_greeted(self) -> None:
        if not self.connection.patience.has_greeted:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _on_headers(self, flags: int, stream_id: int, payload: bytes, data: memoryview | None) -> int:
        """`data` is what follows, if it ends the request; how many bytes of the frame it came in are done with."""
        self._check_greeted()
        if stream_id & 1 == 0:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        if flags & (frames.PADDED | frames.PRIORITISED):
            payload = frames.header_fragment(flags, payload)
        is_last = bool(flags & frames.END_STREAM)
        if not flags & frames.END_HEADERS:
            self._block = _Block(stream_id, payload, is_last)
            return 0
        if data is None or is_last:
            self.connection.on_headers(stream_id, payload, is_last)
            return 0
        return frames.HEAD_BYTES + len(data) if self.connection.on_headers(stream_id, payload, False, data) else 0

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block.add(payload, self.connection.limits.max_header_block)
        if flags & frames.END_HEADERS:
            self._block = None
            self.connection.on_headers(block.stream_id, block.bytes, block.is_last)

    def _on_other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        connection = self.connection
        if kind == frames.SETTINGS:
            self._on_settings(flags, stream_id, payload)
            return
        self._check_greeted()
        if (stream_id == 0) != (kind in (frames.PING, frames.GOAWAY)) and kind != frames.WINDOW_UPDATE:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"a frame of type {kind} on stream {stream_id}")
        if kind == frames.WINDOW_UPDATE:
            connection.on_window_update(stream_id, frames.read_integer(payload) & frames.MAX_WINDOW)
        elif kind == frames.RST_STREAM:
            frames.read_integer(payload)
            connection.on_reset(stream_id)
        elif kind == frames.PING:
            if len(payload) != 8:
                raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "a PING without its 8 bytes")
            connection.on_idle_frame()
            (connection.on_pong if flags & frames.ACK else connection.on_ping)(payload)
        elif kind == frames.PRIORITY:
            connection.on_idle_frame()
            if len(payload) != 5:
                connection.on_broken_priority(stream_id)
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        else:  # GOAWAY: it will close when it has its answers
            connection.on_idle_frame()
            if len(payload) < 8:
                raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY too short")

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if not flags & frames.ACK:
            settings = list(frames.read_settings(payload))
            if len(settings) > _MAX_SETTINGS:
                raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, f"{len(settings)} settings in one frame")
            self.connection.on_settings(settings)
        elif payload:
            raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS that acknowledge and say something")
        else:
            self._check_greeted()
            self.connection.on_idle_frame()


class _Block:
    """A header block that goes on in CONTINUATION frames."""

    __slots__ = ("_fragments", "_size", "is_last", "stream_id")

    def __init__(self, stream_id: int, fragment: bytes, is_last: bool) -> None:
        self.stream_id = stream_id
        self.is_last = is_last
        self._fragments = [fragment]
        self._size = len(fragment)

    def add(self, fragment: bytes, max_bytes: int) -> None:
        self._fragments.append(fragment)
        self._size += len(fragment)
        if self._size > max_bytes or len(self._fragments) > _MAX_CONTINUATIONS:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "a header block too long")

    @property
    def bytes(self) -> bytes:
        return b"".join(self._fragments)
