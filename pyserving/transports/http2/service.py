"""What all connections of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pyserving.errors import Code
from pyserving.messages import Later, Method, QuickMethod, StreamMethod
from pyserving.transports.admission import Admission
from pyserving.transports.busy_poll import NEVER, BusyPoll
from pyserving.transports.grpc_status import status_of
from pyserving.transports.http2 import answers, compression
from pyserving.transports.http2.header_cache import Heads
from pyserving.transports.http2.limits import Limits
from pyserving.transports.http2.message_reader import PREFIX, DataOffset
from pyserving.transports.http2.request_head import RequestHead
from pyserving.transports.http2.stream import Stream
from pyserving.transports.http2.streaming_call import StreamingCall
from pyserving.transports.http2.unary_call import UnaryCall

if TYPE_CHECKING:
    from pyserving.transports.http2.connection import Connection


class Refusal(NamedTuple):
    code: Code
    message: str


def refusal(error: Exception, head: RequestHead) -> Refusal:
    return Refusal(*status_of(error, head.path))


_HEALTH = "/grpc.health.v1.Health/"


@dataclass(frozen=True, slots=True)
class Service:
    methods: Mapping[str, Method]
    stream_methods: Mapping[str, StreamMethod]
    admission: Admission
    limits: Limits
    data_offset: DataOffset
    heads: Heads
    quick_methods: Mapping[str, QuickMethod] = field(default_factory=dict)
    """By path, like the others; tried first."""
    busy_poll: BusyPoll = NEVER
    ending: set[asyncio.Task[None]] = field(default_factory=set)
    """Calls that have been cancelled and are not done yet."""

    def _admission_of(self, path: str) -> Admission | None:
        """Health checks are answered always."""
        return None if path.startswith(_HEALTH) else self.admission

    def call(self, connection: Connection, stream_id: int, head: RequestHead, deadline: float | None) -> Stream | bytes:
        """The call that a request begins, or the frame that refuses it."""
        if head.http_error:
            return answers.http_error(stream_id, head.http_error)
        if head.encoding not in compression.ENCODINGS:
            reason = f"The compression {head.encoding!r} is not supported"
            return answers.trailers_only(stream_id, Code.UNIMPLEMENTED, reason)
        method = self.methods.get(head.path)
        if method is not None:
            admission = self._admission_of(head.path)
            quick = self.quick_methods.get(head.path)
            return UnaryCall(connection, stream_id, head, deadline, method, admission, quick)
        stream_method = self.stream_methods.get(head.path)
        if stream_method is not None:
            most = self.limits.max_message(is_open=self._admission_of(head.path) is None)
            return StreamingCall(connection, stream_id, head, deadline, stream_method, most)
        return answers.trailers_only(stream_id, Code.UNIMPLEMENTED, "")  # grpc++ gives no message

    def quick_answer(
        self, head: RequestHead, data: memoryview, deadline: float | None
    ) -> bytes | Later | Refusal | None:
        """The answer to a request whose DATA is `data`, if it can be had in this turn; None: nothing has been done."""
        quick = self.quick_methods.get(head.path)
        room = len(data) - PREFIX.size
        if quick is None or not head.is_plain or room < 0:
            return None
        is_compressed, size = PREFIX.unpack_from(data)
        if is_compressed or size != room or size > self.limits.max_receive_message or not self.admission.has_room(size):
            return None
        try:
            return quick(bytes(data[PREFIX.size :]), deadline)
        except Exception as error:
            return refusal(error, head)

    def cancel(self, task: asyncio.Task[None]) -> None:
        self.ending.add(task)
        task.add_done_callback(self.ending.discard)
        task.cancel()
