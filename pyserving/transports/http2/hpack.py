"""Header compression (RFC 7541): a decoder with its dynamic table, and literals to write."""

from __future__ import annotations

from typing import TypeAlias

from pyserving.transports.http2 import huffman
from pyserving.transports.http2.errors import ConnectionFailure, ErrorCode

Field: TypeAlias = tuple[bytes, bytes]
"""Name and value."""

DEFAULT_TABLE_BYTES = 4096
_ENTRY_OVERHEAD = 32
_MAX_INTEGER_BYTES = 4
"""After the prefix: 28 bits, more than any length or index here."""

# RFC 7541, appendix A.
_STATIC_NAMES_AND_VALUES = """\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""


def _static_table() -> tuple[Field, ...]:
    lines = _STATIC_NAMES_AND_VALUES.encode().splitlines()
    return tuple((name, value) for name, _, value in (line.partition(b" ") for line in lines))


STATIC = ((b"", b""), *_static_table())
"""By index; the first has none."""
_STATIC_FIELDS = {field: index for index, field in enumerate(STATIC) if index}
_STATIC_NAMES = {name: index for (name, _), index in reversed(_STATIC_FIELDS.items())}
_LAST_STATIC = len(STATIC) - 1
FIRST_DYNAMIC = len(STATIC)
"""The index of the newest entry."""


class HpackError(ConnectionFailure):
    """A header block that cannot be decoded; the two tables may differ from now on, so the connection is over."""

    def __init__(self, reason: str) -> None:
        super().__init__(ErrorCode.COMPRESSION_ERROR, reason)


class Decoder:
    """Decodes the header blocks of one connection, in their order."""

    def __init__(self, max_table_bytes: int = DEFAULT_TABLE_BYTES) -> None:
        """`max_table_bytes`: what our SETTINGS allow the dynamic table to take."""
        self._most_table_bytes = max_table_bytes
        self._max_table_bytes = max_table_bytes
        self._table: list[Field] = []  # the newest last
        self._table_bytes = 0
        self.inserted = 0
        """Entries so far; the next one has this number."""
        self.evicted = 0
        """Of them: those below are gone."""
        self._resizes = 0

    @property
    def changes(self) -> int:
        """Grows when the dynamic table or its limit changes: until then, the same bytes mean the same."""
        return self.inserted + self._resizes

    def decode(self, block: bytes) -> list[Field]:
        """Fields in their order. HpackError for anything that RFC 7541 does not allow."""
        try:
            return self._decode(block)
        except (IndexError, ValueError) as error:  # beyond the end of the block or the table; not Huffman's code
            raise HpackError(str(error)) from None

    def _decode(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        table = self._table
        i, end = 0, len(block)
        while i < end:
            first = block[i]
            i += 1
            if first & 0x80:  # both name and value from a table
                index = first & 0x7F
                if index == 0x7F:
                    index, i = _integer(block, i, index)
                if index > _LAST_STATIC:
                    fields.append(table[_LAST_STATIC - index])
                elif index:
                    fields.append(STATIC[index])
                else:
                    raise HpackError("index 0")
            elif first & 0x40:  # a literal that enters the table
                field, i = self._literal(block, i, first & 0x3F, 0x3F)
                self.insert(field)
                fields.append(field)
            elif first & 0x20:
                size, i = _integer(block, i, first & 0x1F) if first & 0x1F == 0x1F else (first & 0x1F, i)
                if fields or size > self._most_table_bytes:
                    raise HpackError("a table size update out of place or over the limit")
                self._max_table_bytes = size
                self._resizes += 1
                self._evict()
            else:  # a literal that does not
                field, i = self._literal(block, i, first & 0x0F, 0x0F)
                fields.append(field)
        return fields

    def _literal(self, block: bytes, i: int, index: int, mask: int) -> tuple[Field, int]:
        if index == mask:
            index, i = _integer(block, i, mask)
        if index > _LAST_STATIC:
            name = self._table[_LAST_STATIC - index][0]
        elif index:
            name = STATIC[index][0]
        else:
            name, i = _string(block, i)
        value, i = _string(block, i)
        return (name, value), i

    def insert(self, field: Field) -> None:
        """As a literal does that enters the table."""
        self._table.append(field)
        self._table_bytes += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
        self.inserted += 1
        if self._table_bytes > self._max_table_bytes:
            self._evict()

    def _evict(self) -> None:
        evicted = 0
        while self._table_bytes > self._max_table_bytes:
            name, value = self._table[evicted]
            self._table_bytes -= len(name) + len(value) + _ENTRY_OVERHEAD
            evicted += 1
        del self._table[:evicted]
        self.evicted += evicted


def _integer(block: bytes, i: int, prefix: int) -> tuple[int, int]:
    """The integer whose prefix was full, and where the rest begins."""
    value, shift = prefix, 0
    for _ in range(_MAX_INTEGER_BYTES):
        byte = block[i]
        i += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, i
        shift += 7
    raise HpackError("an integer without end")


def _string(block: bytes, i: int) -> tuple[bytes, int]:
    first = block[i]
    i += 1
    size = first & 0x7F
    if size == 0x7F:
        size, i = _integer(block, i, size)
    end = i + size
    if end > len(block):
        raise HpackError("a string beyond the end of its block")
    data = block[i:end]
    return (huffman.decode(data) if first & 0x80 else data), end


def encode(fields: list[Field]) -> bytes:
    """A header block of literals that leaves the peer's table as it is: the same bytes serve every connection."""
    return b"".join(map(_encoded, fields))


def _encoded(field: Field) -> bytes:
    name, value = field
    if field in _STATIC_FIELDS:
        return bytes([0x80 | _STATIC_FIELDS[field]])
    index = _STATIC_NAMES.get(name, 0)
    written_name = b"" if index else _prefixed(len(name), 0x7F, 0) + name
    return _prefixed(index, 0x0F, 0) + written_name + _prefixed(len(value), 0x7F, 0) + value


def _prefixed(value: int, mask: int, pattern: int) -> bytes:
    """An integer behind the bits of `pattern`."""
    if value < mask:
        return bytes([pattern | value])
    out = bytearray([pattern | mask])
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
