"""The body of a refusal."""

from __future__ import annotations


def encode_error(message: str) -> bytes:
    """`{"error": message}` on three lines. Surrogate escapes in the message become the bytes that they stand for."""
    raise NotImplementedError
