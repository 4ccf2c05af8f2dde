"""What all connections of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyserving.errors import Code
from pyserving.messages import Method, StreamMethod
from pyserving.transports.admission import Admission
from pyserving.transports.http2 import answers, compression
from pyserving.transports.http2.header_cache import Heads
from pyserving.transports.http2.limits import Limits
from pyserving.transports.http2.message_reader import DataOffset
from pyserving.transports.http2.request_head import RequestHead
from pyserving.transports.http2.stream import Stream
from pyserving.transports.http2.streaming_call import StreamingCall
from pyserving.transports.http2.unary_call import UnaryCall

if TYPE_CHECKING:
    from pyserving.transports.http2.connection import Connection

_HEALTH = "/grpc.health.v1.Health/"


@dataclass(frozen=True, slots=True)
class Service:
    methods: Mapping[str, Method]
    stream_methods: Mapping[str, StreamMethod]
    admission: Admission
    limits: Limits
    data_offset: DataOffset
    heads: Heads
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
            return UnaryCall(connection, stream_id, head, deadline, method, self._admission_of(head.path))
        stream_method = self.stream_methods.get(head.path)
        if stream_method is not None:
            return StreamingCall(connection, stream_id, head, deadline, stream_method)
        return answers.trailers_only(stream_id, Code.UNIMPLEMENTED, "")  # grpc++ gives no message

    def cancel(self, task: asyncio.Task[None]) -> None:
        self.ending.add(task)
        task.add_done_callback(self.ending.discard)
        task.cancel()
