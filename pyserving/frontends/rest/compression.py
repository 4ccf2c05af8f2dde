"""gzip: request bodies, as TensorFlow Serving's gzip_zlib.cc unpacks them, and answers for those who ask."""

from __future__ import annotations

import zlib

from pyserving.messages import Buffer

MAX_UNPACKED_BYTES = 100 << 20
_GZIP = 16 + zlib.MAX_WBITS
_LEAST_BYTES = 18  # of a gzip member: its header and its trailer
_MOST_TIMES = 1032
"""Its length is what deflate can unpack a body to: 258 bytes for two bits."""
_LEVEL = 1  # for answers: a third of the time of the usual level, for a tenth more bytes


def is_packed(content_encoding: str) -> bool:
    """Whatever holds the word, in these letters: `gzip`, `x-gzip`."""
    return "gzip" in content_encoding


def unpacked_size(body: Buffer) -> int:
    """The size that the trailer of a gzip member claims, which is not surpassed; 0 for what is not taken: no gzip, more
    than MAX_UNPACKED_BYTES, or more than there can be in it."""
    if len(body) < _LEAST_BYTES:
        return 0
    claimed = int.from_bytes(body[-4:], "little")
    return claimed if claimed <= min(MAX_UNPACKED_BYTES, _MOST_TIMES * len(body)) else 0


def unpack(body: Buffer, size: int) -> bytes:
    """The content, of `size` bytes as the trailer claims; none when it cannot be unpacked to just that."""
    decompressor = zlib.decompressobj(_GZIP)
    try:
        content = decompressor.decompress(body, size) if size else b""
        rest = b"" if decompressor.eof else decompressor.decompress(decompressor.unconsumed_tail, 1)
    except zlib.error:
        return b""
    is_whole = decompressor.eof and not rest and not decompressor.unused_data and len(content) == size
    return content if is_whole else b""


def pack(body: Buffer) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return compressor.compress(body) + compressor.flush()


def is_acceptable(accept_encoding: str) -> bool:
    """Whether a client that sent this Accept-Encoding takes gzip."""
    for item in accept_encoding.split(","):
        name, _, quality = item.replace(" ", "").partition(";q=")
        if name.lower() in ("gzip", "*"):
            return quality not in ("0", "0.0", "0.00", "0.000")
    return False
