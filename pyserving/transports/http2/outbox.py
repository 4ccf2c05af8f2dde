"""All that a connection sends: one write per turn of the loop; large answers as fast as windows and socket let them."""

from __future__ import annotations

import asyncio

from pyserving.messages import Buffer
from pyserving.transports.busy_poll import NEVER, BusyPoll
from pyserving.transports.http2 import answers, frames
from pyserving.transports.http2.errors import ConnectionFailure, ErrorCode, StreamFailure
from pyserving.transports.http2.stream import Stream, Unsent

_JOINED_BYTES = 64 << 10
"""What is joined with the frames around it into one write; copying more costs more than it saves."""
_CHUNK_BYTES = 256 << 10
"""The most that one stream sends before it is another's turn."""
_WRITE_BYTES = 256 << 10


class Outbox:
    """Frames in the order in which they go out, and the streams whose DATA waits."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, busy_poll: BusyPoll = NEVER
    ) -> None:
        self._busy_poll = busy_poll
        self._transport = transport
        self._loop = loop
        self._frames: list[Buffer] = []
        self._size = 0
        self._waiting: dict[int, Stream] = {}  # those with a window left, in the order of their turns
        self._is_scheduled = False
        self._is_paused = False
        self.window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame = frames.DEFAULT_FRAME_BYTES
        self.written = 0
        """Bytes handed to the socket's buffer so far."""
        self.sent_of_unsent = 0
        """Bytes of DATA that had to wait for a window or their turn, and are on their way."""

    @property
    def unsent(self) -> int:
        """Bytes of frames that the socket does not take for now."""
        return self._size if self._is_paused else 0

    # Small things

    def put(self, data: bytes) -> None:
        """Frames that no window limits; they go out at the end of this turn."""
        self._frames.append(data)
        self._size += len(data)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self.flush)

    def hold(self) -> None:
        """Somebody will call `flush` at the end of this turn."""
        self._is_scheduled = True

    def flush(self) -> None:
        self._is_scheduled = False
        if not self._is_paused and self._frames:
            self._write()
            self._busy_poll.answered()

    def finish(self) -> None:
        """Nothing more will come: hand over everything but what windows hold back, however full the socket is."""
        self._waiting.clear()
        if self._frames:
            self._write()

    def _write(self) -> None:
        out, size = self._frames, self._size
        self._frames, self._size = [], 0
        self.written += size
        if size <= _JOINED_BYTES:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        else:
            self._transport.writelines(out)

    # Answers

    def answer_at_once(self, stream: Stream, message: bytes) -> bool:
        """Headers, message and trailers of a unary call, if they are small and nothing is in their way."""
        return len(message) + answers.PREFIX_BYTES <= stream.send_window and self.answer_whole(stream.id, message)

    def answer_whole(self, stream_id: int, message: bytes) -> bool:
        """The same, of a stream whose window is as wide as the peer makes it in the beginning, or wider."""
        payload = len(message) + answers.PREFIX_BYTES
        if payload > self.window or payload > self.initial_window or payload > min(self.max_frame, _JOINED_BYTES):
            return False
        if self._size >= _WRITE_BYTES:  # much waits already: let it be counted
            return False
        self.window -= payload
        self.put(answers.whole(stream_id, message))
        return True

    def answer(self, stream: Stream, message: bytes) -> None:
        """Headers, message and trailers of a unary call, as windows and socket allow."""
        self.put(answers.headers(stream.id))
        self._unsent(stream).end = answers.ok(stream.id)
        self.send(stream, message)

    def send(self, stream: Stream, message: bytes) -> bool:
        """One message; True when all of it is on its way."""
        unsent = self._unsent(stream)
        unsent.add(answers.prefix(message))
        unsent.add(message)
        self._waiting[stream.id] = stream
        self.pump()
        return stream.unsent is None

    def end(self, stream: Stream, trailers: bytes) -> bool:
        """Trailers, after all messages; True when they are on their way."""
        if stream.unsent is None:
            self.put(trailers)
            return True
        stream.unsent.end = trailers
        return False

    def forget(self, stream: Stream) -> None:
        """What it has not sent, it will not send."""
        self._waiting.pop(stream.id, None)
        stream.unsent = None

    def _unsent(self, stream: Stream) -> Unsent:
        if stream.unsent is None:
            stream.unsent = Unsent()
        return stream.unsent

    def pump(self) -> None:
        """Send what windows and socket allow, each stream in its turn."""
        while self._waiting and self.window > 0 and not self._is_paused:
            stream = self._waiting.pop(next(iter(self._waiting)))
            self._send_some(stream)
            if self._size >= _WRITE_BYTES:
                was_scheduled = self._is_scheduled
                self.flush()
                self._is_scheduled = was_scheduled

    def _send_some(self, stream: Stream) -> None:
        unsent = stream.unsent
        if unsent is None:
            return
        size = min(unsent.size, self.window, stream.send_window, self.max_frame, _CHUNK_BYTES)
        if size <= 0:
            return  # until its window opens
        self.window -= size
        stream.send_window -= size
        self.sent_of_unsent += size
        self.put(frames.data_head(size, stream.id))
        self._frames += unsent.take(size)
        self._size += size
        if unsent.size:
            self._waiting[stream.id] = stream
            return
        stream.unsent = None
        if unsent.end:
            self.put(unsent.end)
        stream.sent(has_ended=bool(unsent.end))

    # What the peer and the socket say

    def credit(self, increment: int) -> None:
        """The connection's window grows."""
        if increment == 0:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a window update of nothing")
        self.window += increment
        if self.window > frames.MAX_WINDOW:
            raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
        self.pump()

    def opened(self, stream: Stream) -> None:
        """The stream's window has changed."""
        if stream.unsent is not None:
            self._waiting[stream.id] = stream
            self.pump()

    def credit_stream(self, stream: Stream, increment: int) -> None:
        if increment == 0:
            raise StreamFailure(ErrorCode.PROTOCOL_ERROR, "a window update of nothing")
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamFailure(ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is too large")
        self.opened(stream)

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        self.flush()
        self.pump()
