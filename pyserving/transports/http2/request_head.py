"""What a request's header fields say, checked by RFC 9113's section 8 and gRPC's rules."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pyserving.transports.http2.errors import ErrorCode, StreamFailure
from pyserving.transports.http2.hpack import Field

TIMEOUT = b"grpc-timeout"
_PSEUDO_HEADERS = frozenset({b":method", b":scheme", b":path", b":authority"})
_REQUIRED = frozenset({b":method", b":scheme", b":path"})
_CONNECTION_SPECIFIC = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_NO_METADATA = frozenset({b"te", b"content-type", b"content-length", b"host", TIMEOUT})
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BROKEN_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_GRPC = re.compile(rb"application/grpc(?:[+;].*)?")
_MAX_TIMEOUT_DIGITS = 8
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A well-formed request, apart from its timeout."""

    path: str
    encoding: str
    """Of compressed messages."""
    http_error: int
    """The HTTP status that refuses what is not gRPC; 0: it is."""
    content_length: int | None
    metadata: Mapping[str, str | bytes]
    is_plain: bool
    """gRPC, and nothing has to be looked at but the message: no compression, no length."""


def parse(fields: Sequence[Field]) -> RequestHead:
    """StreamFailure when the request is malformed."""
    pseudo = _pseudo_headers(fields)
    regular = fields[len(pseudo) :]
    for name, value in regular:
        _check_field(name, value)
    headers = dict(regular)
    encoding = headers.get(b"grpc-encoding", b"identity").decode("latin-1")
    http_error = _http_error(pseudo[b":method"], headers.get(b"content-type", b""))
    content_length = _content_length(headers.get(b"content-length"))
    return RequestHead(
        path=pseudo[b":path"].decode("latin-1"),
        encoding=encoding,
        http_error=http_error,
        content_length=content_length,
        metadata=_metadata(regular),
        is_plain=not http_error and encoding == "identity" and content_length is None,
    )


def _pseudo_headers(fields: Iterable[Field]) -> dict[bytes, bytes]:
    """Those at the start; one further behind is no proper name of a field."""
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        if not name.startswith(b":"):
            break
        if name not in _PSEUDO_HEADERS or name in pseudo or _BROKEN_VALUE.search(value):
            raise _malformed("pseudo-headers")
        pseudo[name] = value
    if not pseudo.keys() >= _REQUIRED or not pseudo[b":path"]:
        raise _malformed("pseudo-headers")
    return pseudo


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name) or _BROKEN_VALUE.search(value):
        raise _malformed("a field's name or value")
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
        raise _malformed("a field for HTTP/1 connections")


def check_trailers(fields: Iterable[Field]) -> None:
    """StreamFailure when what came after a request's body is malformed."""
    for name, value in fields:
        _check_field(name, value)


def _malformed(what: str) -> StreamFailure:
    return StreamFailure(ErrorCode.PROTOCOL_ERROR, f"malformed request: {what}")


def _http_error(method: bytes, content_type: bytes) -> int:
    if method != b"POST":
        return 405
    return 0 if _GRPC.fullmatch(content_type) else 415


def _content_length(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > 19:
        raise _malformed("content-length")
    return int(value)


def _metadata(fields: Iterable[Field]) -> Mapping[str, str | bytes]:
    """gRPC's custom metadata; of a key that comes twice, the last value counts."""
    return MappingProxyType(
        {
            name.decode(): _binary(value) if name.endswith(b"-bin") else value.decode("latin-1")
            for name, value in fields
            if name not in _NO_METADATA
        }
    )


def _binary(value: bytes) -> bytes:
    """Base64 with or without its padding; several values may be joined by commas."""
    last = value.rpartition(b",")[2].strip().rstrip(b"=")
    try:
        return b64decode(last + b"=" * (-len(last) % 4), validate=True)
    except ValueError:
        raise _malformed("a binary field") from None


def timeout_seconds(value: bytes) -> float | None:
    """What a grpc-timeout says; None, as for gRPC, when it cannot be read."""
    digits, unit = value[:-1], _SECONDS.get(value[-1:])
    return int(digits) * unit if unit and digits.isdigit() and len(digits) <= _MAX_TIMEOUT_DIGITS else None
