"""One HTTP/2 connection, as RFC 9113 has a server behave: its streams, its windows, and how it comes to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pyserving.errors import Code, ResourceExhausted, ServingError
from pyserving.messages import Later
from pyserving.transports.http2 import answers, frames
from pyserving.transports.http2.departure import Departure
from pyserving.transports.http2.errors import ConnectionFailure, ErrorCode, StreamFailure
from pyserving.transports.http2.frames import Setting
from pyserving.transports.http2.header_cache import HeadReader, list_bytes
from pyserving.transports.http2.limits import Allowance
from pyserving.transports.http2.outbox import Outbox
from pyserving.transports.http2.patience import Patience, Verdict
from pyserving.transports.http2.request_head import RequestHead, check_trailers
from pyserving.transports.http2.service import Refusal, Service, refusal
from pyserving.transports.http2.stream import NO_ROOM, Stream
from pyserving.transports.http2.unary_call import UnaryCall

_MAX_GIVEN_UP = 1 << 10
_STREAMS_PER_IDLE_FRAME = 16
"""To change the windows of so many streams takes as long as to answer a frame."""
_PATIENCE_SECONDS = 1.0
_DEADLINE_MARGIN_SECONDS = 0.05
"""Peers count from when they sent the request, and we from when it came."""
_KEEPALIVE_PING = b"alive?\0\0"


class Connection:
    """Told what frames say, once their form is known to be right. ConnectionFailure from any of these ends it."""

    def __init__(self, transport: asyncio.Transport, service: Service, on_lost: Callable[[Connection], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = service.limits
        self.data_offset = service.data_offset
        self.now = self.loop.time()
        """When this turn began."""
        self.outbox = Outbox(transport, self.loop, service.busy_poll)
        self.patience = Patience(self.limits, self.now)
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self._transport = transport
        self._service = service
        self._on_lost = on_lost
        self._busy_poll = service.busy_poll
        self._heads = HeadReader(service.heads)
        self.forget_heads = self._heads.forget
        self.streams: dict[int, Stream] = {}
        self.promised = 0
        """Answers to requests that are no streams, due in this turn of the loop."""
        self._max_streams = self.limits.max_concurrent_streams
        self._given_up: dict[int, None] = {}  # streams that we ended and the peer may not know to be; the oldest first
        self.last_id = 0
        """Of the streams that the peer has begun."""
        self._receive_window = self.limits.connection_window
        self._held = 0
        self._progress = (0, 0)
        """Of our answers, when they were looked at last."""
        self._progress_at = self.now
        self._resets = Allowance(self.limits.resets_at_once, self.limits.resets_per_second, self.now)
        self._idle_frames = Allowance(self.limits.idle_frames_at_once, self.limits.idle_frames_per_second, self.now)
        self.departure = Departure(self, transport)
        self._greet()

    def _greet(self) -> None:
        limits = self.limits
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
            Setting.MAX_FRAME_SIZE: limits.max_frame,
            Setting.MAX_HEADER_LIST_SIZE: limits.max_header_list,
        }
        self.outbox.put(frames.settings(settings))
        self.outbox.put(frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW))

    # Frames

    def on_settings(self, values: list[tuple[int, int]]) -> None:
        self.patience.has_greeted = True
        self.on_idle_frame()
        window = self.outbox.initial_window
        for setting, value in values:
            if setting == Setting.INITIAL_WINDOW_SIZE:
                window = value
                if window > frames.MAX_WINDOW:
                    raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "an initial window too large")
            else:
                self._apply(setting, value)
        if window != self.outbox.initial_window:  # once, for each of the streams has to be told
            self.on_idle_frame(len(self.streams) / _STREAMS_PER_IDLE_FRAME)
            self._resize_windows(window - self.outbox.initial_window)
            self.outbox.initial_window = window
        self.outbox.put(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _apply(self, setting: int, value: int) -> None:
        if setting == Setting.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_BYTES <= value <= frames.LARGEST_FRAME_BYTES:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a frame size out of range")
            self.outbox.max_frame = value
        elif setting == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")

    def _resize_windows(self, growth: int) -> None:
        for stream in list(self.streams.values()):
            if stream.send_window + growth > frames.MAX_WINDOW:
                raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window becomes too large")
            stream.send_window += growth
            self.outbox.opened(stream)

    def on_headers(self, stream_id: int, block: bytes, is_last: bool, data: memoryview | None = None) -> bool:
        """A whole header block. `data` is what ends the request, if that is there already; True when it was taken."""
        if stream_id <= self.last_id:
            self._on_trailers(stream_id, block, is_last)
            return False
        if self.departure.is_final:
            self._heads.decode(block)  # the table goes on
            return False
        self.last_id = stream_id
        self._busy_poll.arrived()
        try:
            head, timeout = self._heads.read(block)
        except StreamFailure as failure:
            self._spend_reset()
            self._give_up(stream_id, failure.code)
        except ServingError as error:
            self._refuse(stream_id, answers.trailers_only(stream_id, error.code, error.message), is_last)
        else:
            deadline = None if timeout is None else self.now + timeout
            if data is not None and self._answer_quickly(stream_id, head, deadline, data):
                return True
            self._open(stream_id, head, deadline, is_last)
        return False

    def _open(self, stream_id: int, head: RequestHead, deadline: float | None, is_last: bool) -> None:
        if len(self.streams) + self.promised >= self._max_streams:
            self._spend_reset()
            self._give_up(stream_id, ErrorCode.REFUSED_STREAM)
            return
        stream = self._service.call(self, stream_id, head, deadline)
        if isinstance(stream, bytes):
            self._refuse(stream_id, stream, is_last)
            return
        self.streams[stream_id] = stream
        if is_last:
            self._end_request(stream)

    def _answer_quickly(self, stream_id: int, head: RequestHead, deadline: float | None, data: memoryview) -> bool:
        """A request of which `data` is all: whether it could be answered in this turn, without becoming a stream.

        Nothing has been done if not.
        """
        if len(data) > self._receive_window or len(self.streams) + self.promised >= self._max_streams:
            return False
        answer = self._service.quick_answer(head, data, deadline)
        if answer is None:
            return False
        self.patience.busy_at = self.now
        self._charge(len(data))
        if isinstance(answer, Later):
            answer.place, answer.deliver = (stream_id, head), self._deliver
            self.promised += 1
        else:
            self._write_answer(stream_id, head, answer)
        return True

    def _deliver(self, later: Later, answer: bytes | Exception) -> None:
        """What was promised for the end of this turn."""
        stream_id, head = later.place
        self.promised -= 1
        if not self.departure.is_leaving:
            self._write_answer(stream_id, head, refusal(answer, head) if isinstance(answer, Exception) else answer)
            self.departure.stream_ended()

    def _write_answer(self, stream_id: int, head: RequestHead, answer: bytes | Refusal) -> None:
        """Of a request that is no stream."""
        if isinstance(answer, Refusal):
            self.outbox.put(answers.trailers_only(stream_id, answer.code, answer.message))
        elif len(answer) > self.limits.max_send_message or not self.outbox.answer_whole(stream_id, answer):
            self._answer_slowly(stream_id, head, answer)

    def _answer_slowly(self, stream_id: int, head: RequestHead, answer: bytes) -> None:
        """By a stream after all, as windows have to open for it."""
        stream = self._service.call(self, stream_id, head, None)
        if isinstance(stream, UnaryCall):
            stream.request_ended = True
            self.streams[stream_id] = stream
            stream.answer(answer)

    def _on_trailers(self, stream_id: int, block: bytes, is_last: bool) -> None:
        fields = self._heads.decode(block)
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id not in self._given_up:
                raise ConnectionFailure(ErrorCode.STREAM_CLOSED, f"HEADERS for stream {stream_id}, which is over")
        elif stream.request_ended:
            self.reset(stream, ErrorCode.STREAM_CLOSED)
        elif not is_last:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
        elif list_bytes(fields) > self.limits.max_header_list:
            self.reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
        else:
            try:
                check_trailers(fields)
            except StreamFailure as failure:
                self.reset(stream, failure.code)
            else:
                self._end_request(stream)

    def on_data_head(self, stream_id: int, size: int, payload_size: int, is_last: bool) -> None:
        """A DATA frame of `size` bytes has begun; all but those of the payload are padding."""
        self._charge(size)
        if payload_size == 0 and not is_last:
            self.on_idle_frame()
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_stray(stream_id, "DATA")
        elif stream.request_ended:
            self.reset(stream, ErrorCode.STREAM_CLOSED)
        elif size > stream.receive_window:
            self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            stream.receive_window -= size

    def on_data(self, stream_id: int, data: memoryview, is_last: bool) -> None:
        """The frame's payload, or a part of it; `is_last` with the request's last byte. The memory is only lent."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        stream.received += len(data)
        if is_last:
            self._end_request(stream, data)
        else:
            stream.heard_at = self.now
            stream.receive(data, False)
            self.top_up(stream)

    def room(self, stream_id: int) -> memoryview:
        """Where the next bytes of a stream's DATA may be read into at once, and `on_data_in_place` be told of."""
        stream = self.streams.get(stream_id)
        return NO_ROOM if stream is None else stream.room

    def on_data_in_place(self, stream_id: int, size: int, is_last: bool) -> None:
        """`on_data`, of bytes that are where they belong."""
        stream = self.streams[stream_id]
        stream.received += size
        if not is_last:
            stream.heard_at = self.now
            stream.fill(size, False)
            self.top_up(stream)
        elif self._is_all(stream):
            stream.fill(size, True)

    def _end_request(self, stream: Stream, data: memoryview = memoryview(b"")) -> None:  # noqa: B008  never written to
        if self._is_all(stream):
            stream.receive(data, True)

    def _is_all(self, stream: Stream) -> bool:
        """The request has ended, and is as long as it said."""
        stream.request_ended = True
        if stream.head.content_length is None or stream.head.content_length == stream.received:
            return True
        self.reset(stream, ErrorCode.PROTOCOL_ERROR)
        return False

    def _charge(self, size: int) -> None:
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        if self._receive_window <= self.limits.connection_window // 2:
            self.outbox.put(frames.window_update(0, self.limits.connection_window - self._receive_window))
            self._receive_window = self.limits.connection_window

    def on_reset(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:  # which crossed our answer
            self._check_not_idle(stream_id, "RST_STREAM")
            return
        self._remove(stream)
        if not self._has_waited(stream):
            self._spend_reset()

    def _has_waited(self, stream: Stream) -> bool:
        """The peer has reason to give the call up; when a server is slow, honest clients give up thousands at once."""
        is_due = stream.deadline is not None and self.now >= stream.deadline - _DEADLINE_MARGIN_SECONDS
        return is_due or self.now - stream.heard_at >= _PATIENCE_SECONDS

    def on_window_update(self, stream_id: int, increment: int) -> None:
        if stream_id == 0:
            self.outbox.credit(increment)
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_not_idle(stream_id, "WINDOW_UPDATE")
            return
        try:
            self.outbox.credit_stream(stream, increment)
        except StreamFailure as failure:
            self.reset(stream, failure.code)

    def on_broken_priority(self, stream_id: int) -> None:
        """A PRIORITY frame of a wrong length."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.reset(stream, ErrorCode.FRAME_SIZE_ERROR)

    def on_ping(self, payload: bytes) -> None:
        self.outbox.put(frames.frame(frames.PING, frames.ACK, 0, payload))

    def on_pong(self, payload: bytes) -> None:
        self.departure.on_pong(payload)

    def on_idle_frame(self, worth: float = 1.0) -> None:
        """One that brings no call further; or that makes as much work as several, it being `worth` them."""
        if not self._idle_frames.spend(self.now, worth):
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that say nothing")

    def _on_stray(self, stream_id: int, what: str) -> None:
        self._check_not_idle(stream_id, what)
        if stream_id <= self.last_id and stream_id not in self._given_up:
            raise ConnectionFailure(ErrorCode.STREAM_CLOSED, f"{what} for stream {stream_id}, which is over")

    def _check_not_idle(self, stream_id: int, what: str) -> None:
        if stream_id > self.last_id and not self.departure.is_final:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"{what} for stream {stream_id}, which has not begun")

    # What calls ask for

    def answer_at_once(self, stream: Stream, message: bytes) -> bool:
        """The whole answer of a unary call, if nothing is in its way."""
        if not self.outbox.answer_at_once(stream, message):
            return False
        self.close(stream)
        return True

    def answer(self, stream: Stream, message: bytes) -> None:
        """The whole answer of a unary call, as the peer is able to take it."""
        stream.has_headers = True
        self.outbox.answer(stream, message)

    def send(self, stream: Stream, message: bytes) -> bool:
        """One message of several; False when some of it has to wait: `stream.sent` is called then."""
        if not stream.has_headers:
            stream.has_headers = True
            self.outbox.put(answers.headers(stream.id))
        return self.outbox.send(stream, message)

    def finish(self, stream: Stream, code: Code, message: str) -> None:
        """The status, after all messages; nothing when the stream is over already."""
        if stream.is_over:
            return
        write = answers.trailers if stream.has_headers else answers.trailers_only
        if self.outbox.end(stream, write(stream.id, code, message)):
            self.close(stream)

    def close(self, stream: Stream) -> None:
        """Our side has ended it."""
        if not stream.request_ended:
            self._give_up(stream.id, ErrorCode.NO_ERROR)
        self._remove(stream)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        self._give_up(stream.id, code)
        self._remove(stream)
        self._spend_reset()

    def top_up(self, stream: Stream) -> None:
        """Give the peer credit, when that is a large step."""
        wanted = stream.wanted_window
        if stream.receive_window <= wanted // 2 < wanted and not stream.is_over:  # credit of nothing is an error
            self.outbox.put(frames.window_update(stream.id, wanted - stream.receive_window))
            stream.receive_window = wanted

    def hold(self, size: int) -> None:
        """Memory for what is neither admitted nor gone; ResourceExhausted when that is too much."""
        if self._held + size > self.limits.max_held:
            raise ResourceExhausted(f"Too many bytes on one connection: the limit is {self.limits.max_held}")
        self._service.admission.hold(size)
        self._held += size

    def let_go(self, size: int) -> None:
        if size:
            self._held -= size
            self._service.admission.let_go(size)

    def cancel(self, task: asyncio.Task[None]) -> None:
        self._service.cancel(task)

    def _refuse(self, stream_id: int, answer: bytes, is_last: bool) -> None:
        """Answer a request that no call is made of."""
        self.outbox.put(answer)
        if not is_last:
            self._give_up(stream_id, ErrorCode.NO_ERROR)

    def _give_up(self, stream_id: int, code: ErrorCode) -> None:
        self.outbox.put(frames.rst_stream(stream_id, code))
        self._given_up[stream_id] = None
        if len(self._given_up) > max(_MAX_GIVEN_UP, self._max_streams):  # all may be, in one moment
            del self._given_up[next(iter(self._given_up))]

    def _remove(self, stream: Stream) -> None:
        del self.streams[stream.id]
        stream.is_over = True
        if stream.unsent is not None:
            self.outbox.forget(stream)
        stream.over()
        self.departure.stream_ended()

    def _spend_reset(self) -> None:
        if not self._resets.spend(self.now):
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "too many streams reset")

    # The end

    def fail(self, failure: ConnectionFailure) -> None:
        """The peer has broken the protocol: say how, end everything, and wait a little for it to read that."""
        self._abandon_streams()
        self.outbox.put(frames.goaway(self.last_id, failure.code, failure.reason))
        self.departure.leave(is_failure=True)

    def abort(self) -> None:
        self._transport.abort()

    def lost(self) -> None:
        """The socket is closed."""
        self.departure.lost()
        self._abandon_streams()
        self._on_lost(self)
        self.closed.set_result(None)

    def _abandon_streams(self) -> None:
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.is_over = True
            self.outbox.forget(stream)
            stream.over()

    # Patience

    def check(self, now: float, *, is_mid_frame: bool) -> None:
        """Called every now and then."""
        self.now = now
        buffered = self._transport.get_write_buffer_size()
        is_waiting = buffered or any(stream.unsent is not None for stream in self.streams.values())
        verdict = self.patience.verdict(
            now,
            has_streams=bool(self.streams),
            is_mid_frame=is_mid_frame,
            taken=self.outbox.written - buffered if is_waiting else None,
        )
        if verdict is Verdict.ABORT:
            self.abort()
        elif verdict is Verdict.PING:
            self.outbox.put(frames.frame(frames.PING, 0, 0, _KEEPALIVE_PING))
        elif verdict is Verdict.RETIRE:
            self.departure.drain(ends_streams=False)
        elif verdict is Verdict.CUT_OFF:
            self.departure.cut_off()
        self._end_stalled_calls(buffered)

    def _end_stalled_calls(self, buffered: int) -> None:
        progress = self.outbox.sent_of_unsent, self.outbox.written - buffered if buffered else 0
        if progress != self._progress:
            self._progress, self._progress_at = progress, self.now
        patience = self.limits.stall_timeout
        for stream in list(self.streams.values()):
            if not stream.is_unary:
                continue
            if not stream.request_ended:
                if self.now - stream.heard_at >= patience:
                    self.finish(stream, Code.ABORTED, f"The request stood still for {patience:g} seconds")
            elif stream.unsent is not None and self.now - stream.unsent.unmoved_since(self.now) >= patience:
                has_had_its_turn = stream.send_window <= 0 or self.now - self._progress_at >= patience
                if has_had_its_turn:
                    self._give_up(stream.id, ErrorCode.CANCEL)
                    self._remove(stream)
