"""The body of a refusal."""

from __future__ import annotations

from pyserving.codec.json.text import as_bytes, quoted


def encode_error(message: str) -> bytes:
    """`{"error": message}` on three lines. Surrogate escapes in the message become the bytes that they stand for."""
    return b'{\n    "error": %b\n}' % quoted(as_bytes(message))
