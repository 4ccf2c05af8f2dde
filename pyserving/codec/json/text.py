"""Strings as TensorFlow Serving writes them into JSON: bytes in, bytes out, whether they are UTF-8 or not."""

from __future__ import annotations

import re

_SHORT_ESCAPES = {0x08: b"\\b", 0x09: b"\\t", 0x0A: b"\\n", 0x0C: b"\\f", 0x0D: b"\\r", 0x22: b'\\"', 0x5C: b"\\\\"}
_ESCAPES = {bytes([code]): b"\\u%04X" % code for code in range(0x20)} | {
    bytes([code]): escape for code, escape in _SHORT_ESCAPES.items()
}
_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')


def quoted(string: bytes) -> bytes:
    """The string between quotes; only quotes, backslashes and control characters are escaped."""
    return b'"%b"' % _ESCAPED.sub(_escape, string)


def _escape(found: re.Match[bytes]) -> bytes:
    return _ESCAPES[found[0]]


def as_message(text: bytes) -> str:
    """Bytes as part of a sentence. Those that are no UTF-8 stand in it as surrogates, and leave it as themselves."""
    return text.decode("utf-8", "surrogateescape")


def as_bytes(message: str) -> bytes:
    """What `as_message` was made from."""
    return message.encode("utf-8", "surrogateescape")
