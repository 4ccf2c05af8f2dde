"""What goes back to a client: gRPC's response headers, messages and trailers, and the refusals of plain HTTP."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from urllib.parse import quote_from_bytes

from pyserving.errors import Code
from pyserving.transports.http2 import frames, hpack

ACCEPTED_ENCODINGS = "identity, deflate, gzip"
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")

HEADERS_BLOCK = hpack.encode(
    [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", ACCEPTED_ENCODINGS.encode()),
    ]
)
_OK_BLOCK = hpack.encode([(b"grpc-status", b"0")])
_PREFIX = Struct(">BI")
PREFIX_BYTES = _PREFIX.size
"""Of a message: whether it is compressed, and its length."""
_ID_BYTES = 4

_ENDS = frames.END_HEADERS | frames.END_STREAM


def _before_id(size: int, kind: int, flags: int) -> bytes:
    """The head of a frame with so many bytes, up to its stream."""
    return frames.HEAD.pack(size >> 8, size & 0xFF, kind, flags, 0)[:-_ID_BYTES]


_HEADERS = _before_id(len(HEADERS_BLOCK), frames.HEADERS, frames.END_HEADERS)
_OK = _before_id(len(_OK_BLOCK), frames.HEADERS, _ENDS)


@lru_cache(maxsize=256)
def _before_message(size: int) -> tuple[bytes, bytes]:
    """What goes before a message of `size` bytes: up to the second mention of its stream, and after that."""
    return HEADERS_BLOCK + _before_id(PREFIX_BYTES + size, frames.DATA, 0), _PREFIX.pack(0, size)


def whole(stream_id: int, message: bytes) -> bytes:
    """All frames of a successful unary answer that fits in one DATA frame."""
    number = stream_id.to_bytes(_ID_BYTES, "big")
    block, prefix = _before_message(len(message))
    return b"".join((_HEADERS, number, block, number, prefix, message, _OK, number, _OK_BLOCK))


def ok(stream_id: int) -> bytes:
    """The trailers of success."""
    return frames.frame(frames.HEADERS, _ENDS, stream_id, _OK_BLOCK)


def headers(stream_id: int) -> bytes:
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, HEADERS_BLOCK)


def prefix(message: bytes) -> bytes:
    return _PREFIX.pack(0, len(message))


def trailers(stream_id: int, code: Code, message: str) -> bytes:
    """After response headers."""
    return _last_headers(stream_id, hpack.encode(_status(code, message)))


def trailers_only(stream_id: int, code: Code, message: str) -> bytes:
    """In place of response headers."""
    return _last_headers(stream_id, HEADERS_BLOCK + hpack.encode(_status(code, message)))


def http_error(stream_id: int, status: int) -> bytes:
    """For a request that is none of gRPC's."""
    return _last_headers(stream_id, hpack.encode([(b":status", b"%d" % status), (b"content-length", b"0")]))


def _last_headers(stream_id: int, block: bytes) -> bytes:
    return frames.frame(frames.HEADERS, _ENDS, stream_id, block)


def _status(code: Code, message: str) -> list[hpack.Field]:
    fields = [(b"grpc-status", b"%d" % code)]
    if message:
        fields.append((b"grpc-message", _percent_encoded(message)))
    return fields


def _percent_encoded(message: str) -> bytes:
    """As gRPC writes it; spaces at the ends too, where HTTP allows none."""
    inner = message.strip(" ")
    before, _, after = message.partition(inner) if inner else (message, "", "")
    escaped = quote_from_bytes(inner.encode(), safe=_PRINTABLE + " ")
    return f"{'%20' * len(before)}{escaped}{'%20' * len(after)}".encode()
