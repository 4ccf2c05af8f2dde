"""HTTP/2 frames as bytes (RFC 9113, sections 4 and 6): their types, their flags, and the ones a server writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from struct import Struct

from pyserving.transports.http2.errors import ConnectionFailure, ErrorCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client's first bytes are."""

HEAD_BYTES = 9
HEAD = Struct(">HBBBI")
"""A frame's head: length (two fields, of 16 and 8 bits), type, flags, stream."""

# Plain integers, for they are compared with every frame.
DATA = 0
HEADERS = 1
PRIORITY = 2
RST_STREAM = 3
SETTINGS = 4
PUSH_PROMISE = 5
PING = 6
GOAWAY = 7
WINDOW_UPDATE = 8
CONTINUATION = 9

ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

MAX_STREAM_ID = (1 << 31) - 1
MAX_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = (1 << 16) - 1
DEFAULT_FRAME_BYTES = 1 << 14
LARGEST_FRAME_BYTES = (1 << 24) - 1

_INTEGER = Struct(">I")
_TWO_INTEGERS = Struct(">II")
_SETTING = Struct(">HI")
_PRIORITY_BYTES = 5


class Setting(IntEnum):
    """RFC 9113, section 6.5.2."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def data_head(size: int, stream_id: int) -> bytes:
    """What goes before `size` bytes of a DATA frame that does not end its stream."""
    return HEAD.pack(size >> 8, size & 0xFF, DATA, 0, stream_id)


def settings(values: Mapping[Setting, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(setting, value) for setting, value in values.items()))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream_id, _INTEGER.pack(code))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, _INTEGER.pack(increment))


def goaway(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _TWO_INTEGERS.pack(last_stream_id, code) + reason.encode())


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Identifiers, known or not, and values."""
    if len(payload) % _SETTING.size:
        raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
    yield from _SETTING.iter_unpack(payload)


def read_integer(payload: bytes) -> int:
    """The 32 bits of RST_STREAM, or the 31 of WINDOW_UPDATE under its reserved one."""
    if len(payload) != _INTEGER.size:
        raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, f"a payload of {len(payload)} bytes where 4 belong")
    number: int = _INTEGER.unpack(payload)[0]
    return number


def header_fragment(flags: int, payload: bytes) -> bytes:
    """A HEADERS frame's part of the header block: without padding, and without a priority, which nobody heeds."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "padded HEADERS without a padding length")
        start, end = 1, end - payload[0]
    if flags & PRIORITISED:
        start += _PRIORITY_BYTES
    if start > len(payload):
        raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
    if start > end:
        raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[start:end]
