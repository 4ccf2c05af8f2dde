"""Messages that a client has compressed. Answers are never compressed, as grpcio's are not unless it is told to."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping

from pyserving.errors import Internal, ResourceExhausted
from pyserving.messages import Buffer

_WINDOW_BITS: Mapping[str, int] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ENCODINGS = frozenset({"identity", *_WINDOW_BITS})
_STEP_BYTES = 1 << 20
_LITTLE_BYTES = 64 << 10
"""What takes no time, on either side."""


async def opened(message: Buffer, encoding: str, max_bytes: float, hold: Callable[[int], None]) -> bytes:
    """As `decompress`, in a thread unless both sides of it are little: a few bytes may become a thousand times as many.

    `hold` is called on the loop.
    """
    if len(message) < _LITTLE_BYTES:
        body = _little(message, encoding)
        if body is not None and len(body) <= max_bytes:
            hold(len(body))
            return body
    loop = asyncio.get_running_loop()

    async def hold_on_loop(size: int) -> None:
        hold(size)

    def hold_from_thread(size: int) -> None:
        asyncio.run_coroutine_threadsafe(hold_on_loop(size), loop).result()

    return await loop.run_in_executor(None, decompress, message, encoding, max_bytes, hold_from_thread)


def _little(message: Buffer, encoding: str) -> bytes | None:
    """The message in full; None where it is not little, or where there is something wrong for `decompress` to name."""
    if encoding not in _WINDOW_BITS:
        return None
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        body = decompressor.decompress(message, _LITTLE_BYTES)
    except zlib.error:
        return None
    return body if decompressor.eof else None


def decompress(message: Buffer, encoding: str, max_bytes: float, hold: Callable[[int], None]) -> bytes:
    """The message in full. `hold` is told of memory before it is used, and may refuse.

    Internal when the bytes are not what `encoding` says; ResourceExhausted when they become more than `max_bytes`.
    """
    if encoding not in _WINDOW_BITS:
        raise Internal("A message is marked as compressed, and the call names no compression")
    parts, size = [], 0
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    rest: Buffer = message
    try:
        while not decompressor.eof:
            part = decompressor.decompress(rest, _STEP_BYTES)
            rest = decompressor.unconsumed_tail
            if not part and not rest and not decompressor.eof:
                raise Internal(f"A message ends within its {encoding} data")
            size += len(part)
            if size > max_bytes:
                raise ResourceExhausted(f"Decompressed message larger than max ({max_bytes})")
            hold(len(part))
            parts.append(part)
    except zlib.error as error:
        raise Internal(f"A message is not in {encoding}: {error}") from None
    return b"".join(parts)
