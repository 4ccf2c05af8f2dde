"""What all connections of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyserving.messages import Method, StreamMethod
from pyserving.transports.admission import Admission
from pyserving.transports.http2.header_cache import Heads
from pyserving.transports.http2.limits import Limits
from pyserving.transports.http2.message_reader import DataOffset

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

    def admission_of(self, path: str) -> Admission | None:
        """Health checks are answered always."""
        return None if path.startswith(_HEALTH) else self.admission

    def cancel(self, task: asyncio.Task[None]) -> None:
        self.ending.add(task)
        task.add_done_callback(self.ending.discard)
        task.cancel()
