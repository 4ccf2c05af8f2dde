"""Header blocks that say the same as the one before, but for the grpc-timeout: understood without being decoded.

Real clients send a timeout with every call, and no two are the same. Each enters HPACK's table, so that every block is
new: the indices of all other fields move by one. But what they move to is known beforehand.
"""

from __future__ import annotations

import re
import sys
from itertools import pairwise

from pyserving.transports.http2 import huffman
from pyserving.transports.http2.hpack import FIRST_DYNAMIC, Decoder, HpackError
from pyserving.transports.http2.request_head import TIMEOUT

_INDICES = re.compile(rb"(?:[\x80-\xfe]|\xff[\x00-\x7f])*")
"""Indexed fields (RFC 7541, section 6.1). From 127 on an index takes a second byte, and no more here: our table has
room for 128 entries, so that 189 is the largest."""
_LEAD = re.compile(rb"\x7e|[\x00\x10\x40]\x0cgrpc-timeout|[\x0f\x1f][\x00-\x7f]")
"""A literal up to its value (6.2). Who names the newest entry by its index goes on to do so, as each inserts another;
who inserts nothing, with the same index."""
_INSERTED = 0x40
_LONG_STRING = 0x7F
_NO_ENTRY = sys.maxsize
_CROSSING = 0x7F  # no second byte of an index


def _moved(byte: int) -> int:
    if byte < _CROSSING or 0x80 | FIRST_DYNAMIC <= byte < 0xFE:
        return byte + 1
    return _CROSSING if byte == 0xFE else byte


_MOVED = bytes(map(_moved, range(256)))


def moved(indices: bytes) -> bytes:
    """Indexed fields as they are written once another field has entered the table."""
    return indices.translate(_MOVED).replace(b"\x7f", b"\xff\x00")


class Pattern:
    """How a connection's next block looks if it says the same as the last.

    For as long as `is_valid`, and as nobody else changes the decoder's table.
    """

    __slots__ = (
        "_after",
        "_before",
        "_decoder",
        "_indices",
        "_lead",
        "_oldest",
        "_oldest_after",
        "inserts",
        "is_valid",
    )

    def __init__(self, decoder: Decoder, indices: bytes, lead: bytes, after: bytes) -> None:
        """Of the block that `decoder` has read last: indices, the `lead` of the timeout's value, indices `after` it."""
        self._decoder = decoder
        self._lead = lead
        self.inserts = bool(lead[0] & _INSERTED)
        """Each of its blocks changes the table."""
        self._indices, self._after, self._before = indices, after, indices + lead
        self._oldest_after = _oldest(after, decoder.inserted)
        self._oldest = min(self._oldest_after, _oldest(indices, decoder.inserted - self.inserts))
        """The first of all the entries that are meant, as they are numbered by the decoder."""
        self.is_valid = self._oldest < _NO_ENTRY
        if self.inserts:
            self._move()

    def value(self, block: bytes) -> bytes | None:
        """The timeout of a block like the last one, after which the table is as if it had been decoded.

        None: it is another one, and nothing has been done. HpackError when it means what its timeout has pushed out.
        """
        before, after = self._before, self._after
        start = len(before) + 1
        if not block.startswith(before) or start > len(block):
            return None
        size = block[start - 1]
        end = start + (size & 0x7F)
        if end + len(after) != len(block) or not block.endswith(after) or size & 0x7F == _LONG_STRING:
            return None
        value = block[start:end]
        if size & 0x80:
            try:
                value = huffman.decode(value)
            except ValueError:
                return None
        if self.inserts:
            self._decoder.insert((TIMEOUT, value))
            self._move()
        return value

    def _move(self) -> None:
        """A timeout has entered the table."""
        self._indices = moved(self._indices)
        self._before = self._indices + self._lead
        if self._after:
            self._after = moved(self._after)
        if self._decoder.evicted > self._oldest:
            self.is_valid = False
            if self._decoder.evicted > self._oldest_after:
                raise HpackError("an index beyond the table")


def pattern_of(block: bytes, position: int, decoder: Decoder) -> Pattern | None:
    """Of the block that was decoded last, whose field at `position` was the timeout.

    None when another field is more than an index, or none of them is in the dynamic table.
    """
    indices = block[: _end(_INDICES, block, 0)]
    if len(indices) - indices.count(0xFF) != position:
        return None
    lead = _LEAD.match(block, len(indices))
    if lead is None or lead.end() == len(block):
        return None
    size = block[lead.end()] & 0x7F
    end = lead.end() + 1 + size
    if size == _LONG_STRING or _end(_INDICES, block, end) != len(block):
        return None
    pattern = Pattern(decoder, indices, lead[0], block[end:])
    return pattern if pattern.is_valid else None


def _end(pattern: re.Pattern[bytes], block: bytes, start: int) -> int:
    match = pattern.match(block, start)
    return start if match is None else match.end()


def _oldest(indices: bytes, inserted: int) -> int:
    """The entry with the largest index, as the decoder numbers them."""
    seconds = [second for first, second in pairwise(indices) if first == 0xFF]
    largest = 0x7F + max(seconds) if seconds else max(indices, default=0) & 0x7F
    return inserted - 1 - (largest - FIRST_DYNAMIC) if largest >= FIRST_DYNAMIC else _NO_ENTRY
