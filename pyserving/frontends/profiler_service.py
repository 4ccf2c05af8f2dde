"""tensorflow.ProfilerService: a trace of what the process does while it serves, for TensorBoard's profile page."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from pyserving import protos
from pyserving.codec.message import parse
from pyserving.codec.tensor_proto import encoded_varint
from pyserving.errors import Internal, InvalidArgument, Unimplemented
from pyserving.machine import resident_bytes
from pyserving.messages import Buffer, CallContext, Method

SERVICE = "tensorflow.ProfilerService"

MAX_MILLISECONDS = 60_000
MAX_BYTES = 256 << 20
"""What the process may grow by meanwhile: events lie in memory until the end, and a busy server makes a hundred
thousand a second. Putting the trace together takes up to four times as much.
"""

Record: TypeAlias = Callable[[Mapping[str, int], float, float, Callable[[float], bool]], Awaitable[bytes]]
"""`executors.profiler.record` in a thread that has nothing else to do, one call after the other."""

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
_TOOL = "xplane.pb"
_XSPACE = b"\x42"
"""Tag of ProfileResponse.xspace."""
_SURELY_NOT_EMPTY_BYTES = 64 << 10
"""Without events there are names of devices and of the host, and no more."""


class ProfilerService:
    """The methods of the service. As profiler_service_impl.cc, one trace at a time, and no monitoring of CPUs and GPUs.

    The trace goes back in the answer, and TensorFlow's clients write it to their log folder. Nothing is written where
    a client says: paths of the client's machine mean something else, or somebody else's files, on this one.
    """

    def __init__(self, record: Record, resident_bytes: Callable[[], int] = resident_bytes) -> None:
        """`resident_bytes` tells, in any thread, what memory the process has."""
        self._record = record
        self._resident_bytes = resident_bytes
        self._recording: _Recording | None = None

    def methods(self) -> Mapping[str, Method]:
        """Full method path to method."""
        return {
            f"/{SERVICE}/Profile": self.profile,
            f"/{SERVICE}/Terminate": self.terminate,
            f"/{SERVICE}/Monitor": self.monitor,
        }

    def close(self) -> None:
        """Whoever is waiting for a trace gets what there is by now."""
        if self._recording is not None:
            self._recording.end()

    async def profile(self, body: Buffer, call: CallContext) -> bytes:
        request = parse(protos.ProfileRequest, body)
        options = request.opts
        delay_seconds = _bounded("start_timestamp_ns", _milliseconds_until(options.start_timestamp_ns))
        seconds = _bounded("duration_ms", options.duration_ms)
        if self._recording is not None and not self._recording.is_over:
            raise Internal("Another profiling session active.")
        recording = self._recording = _Recording(request.session_id, self._resident_bytes)
        try:
            xspace = await self._record(_levels(options), delay_seconds, seconds, recording.wait)
        finally:
            recording.end(is_wanted=False)
        call.reserve(len(xspace))
        return _answer(xspace, emit_xspace=request.emit_xspace)

    async def terminate(self, body: Buffer, call: CallContext) -> bytes:
        """Ends the trace of that session, which answers with what it has. There may be none."""
        request = parse(protos.TerminateRequest, body)
        if self._recording is not None and self._recording.session_id == request.session_id:
            self._recording.end()
        return protos.TerminateResponse().SerializeToString()

    async def monitor(self, body: Buffer, call: CallContext) -> bytes:
        raise Unimplemented("unimplemented.")


class _Recording:
    """One trace that is being taken. The loop ends it; the thread that takes it waits for that."""

    def __init__(self, session_id: str, resident_bytes: Callable[[], int]) -> None:
        self.session_id = session_id
        self._resident_bytes = resident_bytes
        self._is_wanted = True
        self._over = threading.Event()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def end(self, *, is_wanted: bool = True) -> None:
        if not self.is_over:
            self._is_wanted = is_wanted
            self._over.set()

    def wait(self, seconds: float) -> bool:
        """In the thread. Whether the trace is wanted; not for longer than `seconds`, nor than there is memory."""
        end, most = time.monotonic() + seconds, self._resident_bytes() + MAX_BYTES
        while (left := end - time.monotonic()) > 0 and not self._over.wait(min(left, _LOOK_SECONDS)):
            if self._resident_bytes() > most:
                _log.warning("A trace ends %.1f s early: the process has grown by %d MiB", left, MAX_BYTES >> 20)
                break
        return self._is_wanted


def _milliseconds_until(timestamp_ns: int) -> int:
    return max(0, (timestamp_ns - time.time_ns()) // 1_000_000)


def _bounded(field: str, milliseconds: int) -> float:
    """In seconds."""
    if milliseconds > MAX_MILLISECONDS:
        raise InvalidArgument(f"{field} asks for {milliseconds} ms; the most is {MAX_MILLISECONDS} ms")
    return milliseconds / 1000


def _levels(options: protos.ProfileOptions) -> Mapping[str, int]:
    if options.version == 0:  # as profiler_session.cc: nobody filled them in
        return {}
    names = ("host_tracer_level", "device_tracer_level", "python_tracer_level")
    return {name: getattr(options, name) for name in names}


def _answer(xspace: bytes, *, emit_xspace: bool) -> bytes:
    response = protos.ProfileResponse(empty_trace=_is_empty(xspace))
    if not emit_xspace and not response.empty_trace:
        response.tool_data.add(name=_TOOL, data=xspace)
    head = response.SerializeToString()
    return b"".join((head, _XSPACE, encoded_varint(len(xspace)), xspace)) if emit_xspace else head


def _is_empty(xspace: bytes) -> bool:
    """Whether nothing happened. A large trace is not read for that: it would hold up the loop."""
    if len(xspace) > _SURELY_NOT_EMPTY_BYTES:
        return False
    return not any(line.events for plane in protos.XSpace.FromString(xspace).planes for line in plane.lines)
